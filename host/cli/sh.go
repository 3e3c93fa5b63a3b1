package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var shVerb = &verb{
	name: "sh", group: groupFiles, synopsis: []string{"", "-c LINE"},
	short: "walk around in the kernel's files",
	long: []string{
		"Reads lines from standard input; each is a verb of rumpus with its flags and operands, as in ls -l etc. They share one process of the kernel, so that relative paths start at its working directory. Besides, there are:",
		"    cd [DIRECTORY]   change the working directory, without operand to /\n    pwd              show it\n    help [VERB]      the manual\n    exit             end, as the end of the input does",
		"Words are taken apart as sh(1) does: '...', \"...\" and \\ keep characters as they are, # begins a comment; *, ? and [...] stand for the names in the kernel that they match. There are no variables, pipes or redirections.",
		"With --image the lines are for the files of a disk image: looking around, and with --rw repairing, as with debugfs(8), for every file system there is.",
	},
	examples: []example{
		{"rumpus --image disk.img sh", "Look around in a disk image."},
		{"rumpus sh -c 'cd /etc; ls -l *.conf'", "Lines from the command line, with ; between."},
	},
	exit: []string{"That of the last line that failed; 0 if none did."},
	setup: func(fs *pflag.FlagSet) runFunc {
		line := fs.StringP("command", "c", "", "do `LINE` and end")
		return func(ctx context.Context, c *call, _ []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			s := &shell{c: c, k: k}
			if fs.Changed("command") {
				return s.lines(ctx, strings.NewReader(*line), false)
			}
			return s.lines(ctx, c.stdin, isTerminal(c.stdin) && isTerminal(c.stderr))
		}
	},
}

// shell is a use of sh.
type shell struct {
	c    *call
	k    *rumpclient.Client
	code int
}

// maxLine bounds a line of sh, in bytes.
const maxLine = 1 << 20

// lines does one line after the other. Between lines a signal ends it, also if
// the input is a terminal that nobody writes to.
func (s *shell) lines(ctx context.Context, in io.Reader, prompt bool) error {
	buf := bufio.NewReaderSize(in, 4096)
	s.c.stdin = buf // what a verb reads stands behind its line
	for {
		if prompt {
			cwd, err := s.k.Getcwd(ctx)
			if err != nil {
				cwd = "?"
			}
			fmt.Fprintf(s.c.stderr, "%s> ", printable(cwd))
		}
		line, err := readLine(ctx, buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		end := errors.Is(err, io.EOF)
		for len(line) > 0 {
			var words []word
			if words, line, err = shWords(line); err != nil {
				s.c.fail(err)
				s.code = exitUsage
				break
			}
			if len(words) == 0 {
				continue
			}
			if words[0].text == "exit" || words[0].text == "quit" {
				end, line = true, ""
				break
			}
			s.line(ctx, words)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		if end {
			if prompt {
				fmt.Fprintln(s.c.stderr)
			}
			if s.code != 0 {
				return exitError(s.code)
			}
			return nil
		}
	}
}

// readLine reads a line without blocking the end of ctx. After an end of ctx buf
// is not to be used.
func readLine(ctx context.Context, buf *bufio.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		var b strings.Builder
		for {
			part, err := buf.ReadSlice('\n')
			if b.Len()+len(part) > maxLine {
				got <- result{"", usagef("a line is longer than %d bytes", maxLine)}
				return
			}
			b.Write(part)
			if !errors.Is(err, bufio.ErrBufferFull) {
				got <- result{b.String(), err}
				return
			}
		}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// line does one line.
func (s *shell) line(ctx context.Context, words []word) {
	args := make([]string, 0, len(words))
	for i, w := range words {
		if i > 0 && w.glob {
			names, err := s.expand(ctx, w.pattern)
			if err != nil {
				s.fail(err)
				return
			}
			if len(names) > 0 {
				args = append(args, names...)
				continue
			}
		}
		args = append(args, w.text)
	}
	switch args[0] {
	case "cd":
		if len(args) == 1 {
			args = append(args, "/")
		}
		if len(args) > 2 {
			s.fail(usagef("cd: operand %q is one too many", args[2]))
		} else if err := s.k.Chdir(ctx, args[1]); err != nil {
			s.fail(err)
		}
		return
	case "pwd":
		cwd, err := s.k.Getcwd(ctx)
		if err != nil {
			s.fail(err)
			return
		}
		fmt.Fprintln(s.c.stdout, s.c.show(cwd))
		return
	}
	v := verbNamed(args[0])
	switch {
	case v == nil:
		s.fail(usagef("there is no %q here; see help", args[0]))
	case v.server && v.name != "help" && v.name != "version" || v.name == "sh":
		s.fail(usagef("%s is no verb of sh", v.name))
	default:
		s.note(s.c.sub(ctx, s.k, args))
	}
}

func (s *shell) fail(err error) {
	s.c.fail(err)
	s.note(exitCode(err))
}

func (s *shell) note(code int) {
	if code != 0 {
		s.code = code
	}
}

// here is the directory that a verb without operands is about: the root, in sh
// the working directory.
func (c *call) here() string {
	if c.shared {
		return "."
	}
	return "/"
}

// sub runs a verb with the client of c and answers its exit code.
func (c *call) sub(ctx context.Context, k *rumpclient.Client, args []string) int {
	return dispatchVerb(ctx, c.streams, c.globals, args, func(sub *call) {
		sub.img, sub.client, sub.shared = c.img, k, true
	})
}

// expand gives the names that a pattern matches, sorted; none if it matches
// nothing.
func (s *shell) expand(ctx context.Context, pattern string) ([]string, error) {
	found := []string{""}
	rest := pattern
	if p, ok := strings.CutPrefix(rest, "kernel:"); ok {
		found, rest = []string{"kernel:"}, p
	}
	for n := 0; rest != ""; n++ {
		i := 0
		for i < len(rest) && rest[i] == '/' {
			i++
		}
		slashes := rest[:i]
		rest = rest[i:]
		name, _, _ := strings.Cut(rest, "/")
		rest = rest[len(name):]
		var next []string
		for _, dir := range found {
			dir += slashes
			if name == "" || !hasGlob(name) {
				next = append(next, dir+unescape(name))
				continue
			}
			if n > 64 || len(next) > 1<<16 {
				return nil, fmt.Errorf("%s: matches too much: %w", pattern, abi.E2BIG)
			}
			at := strings.TrimPrefix(dir, "kernel:")
			if at == "" {
				at = "."
			}
			entries, err := s.k.ReadDir(ctx, at)
			if err != nil {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				continue
			}
			for _, e := range entries {
				if e.Name == "." || e.Name == ".." || strings.HasPrefix(e.Name, ".") && !strings.HasPrefix(name, ".") {
					continue
				}
				if globMatch(name, e.Name, false) {
					next = append(next, dir+e.Name)
				}
			}
		}
		found = next
	}
	var there []string
	for _, f := range found {
		if _, err := s.k.Lstat(ctx, strings.TrimPrefix(f, "kernel:")); err == nil {
			there = append(there, f)
		}
	}
	slices.Sort(there)
	return there, nil
}

func hasGlob(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// word is a word of a line.
type word struct {
	text    string // without quotes
	pattern string // with \ before what was quoted
	glob    bool   // there is an unquoted *, ? or [ in it
}

// shWords takes the words of a line apart, up to a ; or the end, and answers what
// stands behind.
func shWords(line string) (words []word, rest string, err error) {
	var w word
	var open bool
	add := func(c byte, quoted bool) {
		open = true
		w.text += string([]byte{c})
		if quoted && strings.IndexByte(`*?[]\`, c) >= 0 {
			w.pattern += `\`
		}
		w.pattern += string([]byte{c})
		if !quoted && strings.IndexByte("*?[", c) >= 0 {
			w.glob = true
		}
	}
	end := func() {
		if open {
			words = append(words, w)
		}
		w, open = word{}, false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\r':
			end()
		case '\n', ';':
			end()
			return words, line[i+1:], nil
		case '#':
			if open {
				add(c, false)
				continue
			}
			_, rest, _ = strings.Cut(line[i:], "\n")
			return words, rest, nil
		case '\\':
			if i++; i == len(line) || line[i] == '\n' {
				return nil, "", usagef(`there is nothing behind the last \`)
			}
			add(line[i], true)
		case '\'', '"':
			open = true
			for i++; ; i++ {
				if i == len(line) {
					return nil, "", usagef("a %c is not closed", c)
				}
				if line[i] == c {
					break
				}
				if c == '"' && line[i] == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\') {
					i++
				}
				add(line[i], true)
			}
		default:
			add(c, false)
		}
	}
	end()
	return words, "", nil
}
