package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/rumpus-kernel/rumpus/kernel/hyper"
	"github.com/rumpus-kernel/rumpus/modapi"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// MaxProps bounds the coded properties of a module, in bytes, and those that
// the user gives (ENOMEM); MaxPropsFile bounds the file of properties beside a
// plugin (EFBIG).
const (
	MaxProps     = 4096
	MaxPropsFile = 8192
)

func checkProps(p modapi.Props) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("properties: %v: %w", err, abi.EINVAL)
	}
	if len(b) > MaxProps {
		return fmt.Errorf("properties are %d bytes, more than %d: %w", len(b), MaxProps, abi.ENOMEM)
	}
	return nil
}

// ParseProps reads properties as JSON: one object, whose whole numbers become
// int64. Nothing is no properties. EINVAL.
func ParseProps(b []byte) (modapi.Props, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var p modapi.Props
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("properties: %v: %w", err, abi.EINVAL)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("properties: more than one object: %w", abi.EINVAL)
	}
	for k, v := range p {
		n, err := number(v)
		if err != nil {
			return nil, fmt.Errorf("property %.40q: %w", k, err)
		}
		p[k] = n
	}
	return p, nil
}

// number makes what json.Number stands for of v and all in it.
func number(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("%.40s is no number that fits: %w", v, abi.EINVAL)
		}
		return f, nil
	case []any:
		for i := range v {
			n, err := number(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = n
		}
	case map[string]any:
		for k := range v {
			n, err := number(v[k])
			if err != nil {
				return nil, err
			}
			v[k] = n
		}
	}
	return v, nil
}

// noautoload is the property that forbids autoload.
const noautoload = "noautoload"

// merge makes the properties for a plugin: those of the file beside it, and
// over them the user's. EPERM when they forbid autoload.
func (m *Manager) merge(p hyper.Plugin, s LoadSpec) (modapi.Props, error) {
	props := maps.Clone(s.Props)
	if f, ok := p.(hyper.PropsFiler); ok && !s.NoProps {
		b, err := f.PropsFile(MaxPropsFile + 1)
		if err != nil && abi.ErrnoOf(err) != abi.ENOENT {
			return nil, fmt.Errorf("modload %s: properties: %w", s.Name, err)
		}
		if len(b) > MaxPropsFile {
			return nil, fmt.Errorf("modload %s: the file of properties is over %d bytes: %w", s.Name, MaxPropsFile, abi.EFBIG)
		}
		if err == nil {
			file, err := ParseProps(b)
			if err != nil {
				return nil, fmt.Errorf("modload %s: file of %w", s.Name, err)
			}
			if file == nil {
				file = modapi.Props{}
			}
			maps.Copy(file, props)
			props = file
		}
	}
	if s.auto && props[noautoload] == true {
		return nil, fmt.Errorf("modload %s: autoload is disallowed by its properties: %w", s.Name, abi.EPERM)
	}
	return props, nil
}
