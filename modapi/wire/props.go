package wire

import (
	"fmt"
	"sort"

	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Bounds of properties.
const (
	MaxProps  = 4096 // bytes in coded form
	propDepth = 8
)

// Tags of property values.
const (
	tagString = iota + 1
	tagFalse
	tagTrue
	tagInt
	tagFloat
	tagList
	tagMap
)

// CheckProps says why properties cannot be passed: EINVAL for a value of
// another type than strings, bools, int64s, float64s, lists and maps or nested
// too deeply, ENOMEM for more than MaxProps bytes. An int counts as an int64.
func CheckProps(p modapi.Props) error {
	if err := checkProp("props", map[string]any(p), 0); err != nil {
		return err
	}
	c := coder{}
	c.props(&p)
	if len(c.b) > MaxProps {
		return fmt.Errorf("properties of %d bytes, more than %d: %w", len(c.b), MaxProps, abi.ENOMEM)
	}
	return nil
}

func checkProp(name string, v any, depth int) error {
	if depth > propDepth {
		return fmt.Errorf("property %s: nested too deeply: %w", name, abi.EINVAL)
	}
	switch v := v.(type) {
	case string, bool, int, int64, float64, []string:
		return nil
	case []any:
		for _, e := range v {
			if err := checkProp(name, e, depth+1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for k, e := range v {
			if err := checkProp(name+"/"+k, e, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("property %s: type %T: %w", name, v, abi.EINVAL)
}

func (c *coder) props(p *modapi.Props) {
	m := map[string]any(*p)
	c.propMap(&m, 0)
	if c.dec {
		*p = m
	}
}

// propMap codes a map in the order of its keys.
func (c *coder) propMap(p *map[string]any, depth int) {
	n := c.count(len(*p), 5, MaxProps)
	if !c.dec {
		keys := make([]string, 0, len(*p))
		for k := range *p {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			v := (*p)[k]
			c.str(&k, maxName)
			c.prop(&v, depth+1)
		}
		return
	}
	if depth > propDepth {
		c.fail("properties nested too deeply")
		return
	}
	*p = nil
	if n > 0 || depth > 0 {
		*p = make(map[string]any, n)
	}
	last := ""
	for i := 0; i < n; i++ {
		var k string
		var v any
		c.str(&k, maxName)
		c.prop(&v, depth+1)
		if c.err == nil && i > 0 && k <= last {
			c.fail("keys out of order")
		}
		if c.err != nil {
			return
		}
		(*p)[k] = v
		last = k
	}
}

func (c *coder) prop(p *any, depth int) {
	if c.dec {
		c.decProp(p, depth)
		return
	}
	switch v := (*p).(type) {
	case string:
		c.b = append(c.b, tagString)
		c.str(&v, MaxProps)
	case bool:
		if v {
			c.b = append(c.b, tagTrue)
		} else {
			c.b = append(c.b, tagFalse)
		}
	case int:
		c.b = append(c.b, tagInt)
		c.num(&v)
	case int64:
		c.b = append(c.b, tagInt)
		c.i64(&v)
	case float64:
		c.b = append(c.b, tagFloat)
		c.f64(&v)
	case []string:
		c.b = append(c.b, tagList)
		c.count(len(v), 1, MaxProps)
		for i := range v {
			c.b = append(c.b, tagString)
			c.str(&v[i], MaxProps)
		}
	case []any:
		c.b = append(c.b, tagList)
		c.count(len(v), 1, MaxProps)
		for i := range v {
			c.prop(&v[i], depth+1)
		}
	case map[string]any:
		c.b = append(c.b, tagMap)
		c.propMap(&v, depth)
	default: // CheckProps refuses it before
		c.b = append(c.b, tagString)
		s := fmt.Sprint(v)
		c.str(&s, MaxProps)
	}
}

func (c *coder) decProp(p *any, depth int) {
	if depth > propDepth {
		c.fail("properties nested too deeply")
		return
	}
	var tag uint8
	c.u8(&tag)
	switch tag {
	case tagString:
		var s string
		c.str(&s, MaxProps)
		*p = s
	case tagFalse, tagTrue:
		*p = tag == tagTrue
	case tagInt:
		var n int64
		c.i64(&n)
		*p = n
	case tagFloat:
		var f float64
		c.f64(&f)
		*p = f
	case tagList:
		n := c.count(0, 1, MaxProps)
		l := make([]any, n)
		for i := range l {
			if c.err != nil {
				return
			}
			c.prop(&l[i], depth+1)
		}
		*p = l
	case tagMap:
		var m map[string]any
		c.propMap(&m, depth)
		*p = m
	default:
		c.fail("unknown property type")
	}
}
