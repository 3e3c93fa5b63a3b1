package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"go.yaml.in/yaml/v3"
)

// Options say where a configuration comes from. The zero Options are what
// the command line without flags means.
type Options struct {
	// Path is the file named by --config; "" looks in $RUMPUS_CONFIG, then for
	// config.yaml in Dir. A file that is named must be there.
	Path string
	// Dir is where config.yaml is looked for; "" is the working directory.
	Dir string
	// Environ is the environment as NAME=value; nil is the process's own.
	Environ []string
	// Overrides are the top layer: keys joined by "/" (see ParseSet) and their
	// values, as text or in the types that YAML has.
	Overrides map[string]any
}

// DefaultFile is the name of the file that is read if no other is named.
const DefaultFile = "config.yaml"

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Load builds the configuration. The error is an *Error, or Errors if more than
// one thing is wrong. No file at all and an empty file both mean the defaults.
func Load(opts Options) (*Config, error) {
	if opts.Environ == nil {
		opts.Environ = os.Environ()
	}
	name, data, err := readFile(opts)
	if err != nil {
		return nil, err
	}
	c, errs := buildAll(name, data, opts.Environ, opts.Overrides)
	switch len(errs) {
	case 0:
		return c, nil
	case 1:
		return nil, errs[0]
	}
	return nil, errs
}

// Default is the configuration without a file, an environment or overrides.
func Default() *Config {
	c, e := build(BuiltIn, nil, nil, nil)
	if e != nil {
		panic(e) // the defaults are ours, and every test loads them
	}
	return c
}

// ParseSet splits the command line's key=value for Options.Overrides.
func ParseSet(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", &Error{File: "--set", Msg: "got " + got(s) + ", wanted key=value such as log/level=debug"}
	}
	return key, value, nil
}

// readFile finds and reads the file. Its name is BuiltIn if there is none.
func readFile(opts Options) (name string, data []byte, err error) {
	name, must := opts.Path, true
	if name == "" {
		for _, kv := range opts.Environ {
			if v, ok := strings.CutPrefix(kv, "RUMPUS_CONFIG="); ok {
				name = v
			}
		}
	}
	if name == "" {
		name, must = filepath.Join(opts.Dir, DefaultFile), false
	}
	// Not blocking, so that a fifo that nobody writes to is not waited for.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if !must && errors.Is(err, fs.ErrNotExist) {
			return BuiltIn, nil, nil
		}
		return "", nil, readError(name, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return "", nil, readError(name, err)
	} else if st.IsDir() {
		return "", nil, &Error{File: name, Msg: "is a directory, wanted a file"}
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", nil, readError(name, err)
	}
	if len(data) > maxFile {
		return "", nil, &Error{File: name, Msg: "longer than 1 MiB, which is no configuration"}
	}
	return name, data, nil
}

func readError(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{File: name, Msg: "no such file"}
	}
	return &Error{File: name, Msg: oneLine(err.Error())}
}

// builder is a configuration in the making.
type builder struct {
	k *koanf.Koanf
	// name is the file's.
	name string
	// origin says which source set a place last.
	origin map[string]string
	// errs is what is wrong so far.
	errs Errors
}

// build is buildAll with the first mistake only.
func build(name string, data []byte, environ []string, overrides map[string]any) (*Config, *Error) {
	c, errs := buildAll(name, data, environ, overrides)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return c, nil
}

// buildAll makes a configuration of the bytes of a file and the other layers, or
// says all that is wrong with it. What only the whole can show is looked for
// when everything else is right, so that one mistake is not told twice.
func buildAll(name string, data []byte, environ []string, overrides map[string]any) (*Config, Errors) {
	b := &builder{k: koanf.New("/"), name: name, origin: map[string]string{}}
	b.set(BuiltIn, nil, defaults())
	root, err := parseYAML(data)
	if err != nil {
		line, msg := splitLine(err)
		b.errs = append(b.errs, &Error{File: name, Line: line, Msg: msg})
	} else if root != nil {
		b.set(name, nil, root)
	}
	b.environment(environ)
	for _, key := range sortedKeys(overrides) {
		b.override(key, overrides[key])
	}
	var c *Config
	if len(b.errs) == 0 {
		c = b.finish()
	}
	if len(b.errs) == 0 {
		return c, nil
	}
	b.locate(data)
	return nil, b.errs
}

// wrong notes mistakes of a source.
func (b *builder) wrong(source string, faults ...*fault) {
	for _, f := range faults {
		b.errs = append(b.errs, &Error{File: source, Key: keyPath(f.path), Msg: f.msg, path: f.path})
	}
}

// whole notes a mistake that is not about one key.
func (b *builder) whole(source string, err error) {
	b.errs = append(b.errs, &Error{File: source, Msg: oneLine(err.Error())})
}

// at is the schema at path, or nil; inFree says that path is a name in a free
// map.
func at(path []string) (n *node, inFree bool) {
	n = schema
	for _, p := range path {
		switch n.kind {
		case section:
			n = n.fields[p]
		case mapOf:
			n = n.elem
		case free:
			return n, true
		default:
			return nil, false
		}
		if n == nil {
			return nil, false
		}
	}
	return n, false
}

// set puts one layer, or one value of it, on top of what is there, as far as it
// is right.
func (b *builder) set(source string, path []string, v any) {
	// The value is wrapped in its path and checked from the top, so that the
	// names on the way are checked too.
	for i := len(path) - 1; i >= 0; i-- {
		v = map[string]any{path[i]: v}
	}
	c := &checker{seen: func(p []string) {
		if len(p) >= len(path) {
			b.origin[strings.Join(p, "/")] = source
		}
	}}
	m := schema.check(nil, v, c).(map[string]any)
	b.wrong(source, c.faults...)
	if len(path) <= 1 {
		for key := range m {
			if replaced[key] {
				b.k.Delete(key)
			}
		}
	}
	if err := b.k.Load(confmap.Provider(m, ""), nil); err != nil {
		b.whole(source, err)
	}
}

// section is the mapping at key as the layers so far have made it.
func (b *builder) section(key string) map[string]any {
	m, _ := b.k.Get(key).(map[string]any)
	return m
}

// override applies one of Options.Overrides.
func (b *builder) override(key string, v any) {
	const source = "--set"
	path := strings.Split(key, "/")
	n, inFree := at(path)
	if s, ok := v.(string); ok && n != nil {
		var err error
		if v, err = n.fromText(s, inFree); err != nil {
			b.wrong(source, faultf(path, "%s", err))
			return
		}
	}
	b.set(source, path, v)
}

// finish puts the defaults of components under what has been said about them,
// decodes, and checks what only the whole can show.
func (b *builder) finish() *Config {
	k := koanf.New("/")
	for _, name := range sortedKeys(b.section("components")) {
		c := &checker{seen: func([]string) {}}
		out := schema.fields["components"].elem.check(nil, componentDefaults(name), c)
		for _, f := range c.faults {
			b.wrong(b.name, &fault{[]string{"components", name}, f.msg})
			return nil
		}
		m := map[string]any{"components": map[string]any{name: out}}
		if err := k.Load(confmap.Provider(m, ""), nil); err != nil {
			b.whole(b.name, err)
			return nil
		}
	}
	if err := k.Load(confmap.Provider(b.k.Raw(), ""), nil); err != nil {
		b.whole(b.name, err)
		return nil
	}
	c := &Config{Source: b.name}
	err := k.UnmarshalWithConf("", c, koanf.UnmarshalConf{
		Tag:           "koanf",
		DecoderConfig: &mapstructure.DecoderConfig{ErrorUnused: true},
	})
	if err != nil {
		b.whole(b.name, err)
		return nil
	}
	c.complete()
	for _, f := range c.consistent() {
		b.wrong(b.sourceOf(f.path), f)
	}
	return c
}

// sourceOf is who set path last, or else something below it, or else the
// nearest place above it that this is true of.
func (b *builder) sourceOf(path []string) string {
	for i := len(path); i > 0; i-- {
		key := strings.Join(path[:i], "/")
		if s := b.origin[key]; s != "" && s != BuiltIn {
			return s
		}
		for _, sub := range sortedKeys(b.origin) {
			if s := b.origin[sub]; i > 1 && strings.HasPrefix(sub, key+"/") && s != BuiltIn {
				return s
			}
		}
	}
	return b.name
}

// parseYAML reads one YAML document: nil, a scalar, []any, map[string]any or
// map[any]any. The error is one line, with the line's number where the parser
// tells.
func parseYAML(data []byte) (v any, err error) {
	defer func() {
		// The parser answers errors by panics of its own and catches these; one
		// that it does not catch is its bug, and must not be ours.
		if r := recover(); r != nil {
			v, err = nil, errors.New("not YAML: "+oneLine(fmt.Sprint(r)))
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&v); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, yamlError(data, err)
	}
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case errors.Is(err, io.EOF):
		return v, nil
	case err != nil:
		return nil, yamlError(data, err)
	}
	return nil, errors.New("line " + strconv.Itoa(more.Line) + ": a second document begins, wanted one")
}

// yamlError is the parser's error in one line, with the number of the line.
// The parser names a line in some errors only, and then it may be the one where
// the enclosing mapping began; the first line with which the beginning of the
// text gives the same error is found by bisection, and the later one is told.
func yamlError(data []byte, err error) error {
	var te *yaml.TypeError
	if errors.As(err, &te) && len(te.Errors) > 0 {
		return errors.New(oneLine(te.Errors[0])) // always with its line
	}
	line, msg := splitLine(err)
	ends := []int{}
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	line = max(line, 1+sort.Search(len(ends), func(i int) bool {
		_, m := splitLine(decodeAll(data[:ends[i]]))
		return m == msg
	}))
	if strings.HasPrefix(msg, "invalid map key") {
		msg = "a name is a list or a mapping, wanted text"
	}
	return fmt.Errorf("line %d: %s", line, oneLine(msg))
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// splitLine takes the line's number, or 0, off a parser's error.
func splitLine(err error) (int, string) {
	if err == nil {
		return 0, ""
	}
	m := yamlLine.FindStringSubmatch(err.Error())
	n, _ := strconv.Atoi(m[1])
	return n, err.Error()[len(m[0]):]
}

// decodeAll is the first error in all documents of data.
func decodeAll(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for range 2 {
		var v any
		if err := dec.Decode(&v); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
	return nil
}

// complete fills in what the decoder leaves: names and maps.
func (c *Config) complete() {
	for name, comp := range c.Components {
		comp.Name = name
		if comp.Props == nil {
			comp.Props = map[string]any{}
		}
		c.Components[name] = comp
	}
	for i := range c.Mounts {
		if c.Mounts[i].Options == nil {
			c.Mounts[i].Options = map[string]any{}
		}
	}
	if c.Components == nil {
		c.Components = map[string]Component{}
	}
	if c.Interfaces == nil {
		c.Interfaces = map[string]Interface{}
	}
	if c.Kernel.Sysctl == nil {
		c.Kernel.Sysctl = map[string]any{}
	}
}
