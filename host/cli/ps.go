package cli

import (
	"context"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/rumpus-kernel/rumpus/kernel/rumpclient"
	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

var psVerb = &verb{
	name: "ps", group: groupKernel, synopsis: []string{"[-j] [-p PID]"}, max: 0,
	short: "show the kernel's processes",
	long: []string{
		"Shows one line a process of the kernel, which is a client of it, or of the one with the number PID: its number, its parent's, the effective user, its state (R in a system call, S waiting in one, I in none, T stopped by a signal), the system calls in progress, what it waits for, which is the name of a system call or of what a driver sleeps on, and the program's name. The process with the number 0 is the kernel itself, and ps is one of those that it shows.",
		"With -j also process group, session, open descriptors and the session's login name.",
		"--json is an array of objects with pid, ppid, pgid, sid, uid, gid, state, lwps, files, wmesg, login and name.",
	},
	examples: []example{{"rumpus ps -j", "All processes, with their sessions."}},
	exit:     []string{"1 also if there is no process PID."},
	setup: func(fs *pflag.FlagSet) runFunc {
		pid := fs.IntP("pid", "p", -1, "only process `PID`")
		jobs := fs.BoolP("jobs", "j", false, "more columns")
		return func(ctx context.Context, c *call, _ []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			all, err := k.Procstat(ctx)
			if err != nil {
				return err
			}
			rows := []rumpclient.Procstat{}
			for _, p := range all {
				if *pid < 0 || p.Pid == *pid {
					rows = append(rows, p)
				}
			}
			if len(rows) == 0 {
				return &rumpclient.Error{Op: "ps", Path: strconv.Itoa(*pid), Errno: abi.ESRCH}
			}
			if c.json {
				return writeJSON(c.out, rows)
			}
			head, format := []string{"PID", "PPID", "UID", "STAT", "LWPS", "WMESG", "NAME"}, "rrrlrll"
			if *jobs {
				head, format = []string{"PID", "PPID", "PGID", "SID", "UID", "STAT", "LWPS", "FILES", "LOGIN", "WMESG", "NAME"}, "rrrrrlrrlll"
			}
			lines := [][]string{head}
			for _, p := range rows {
				id := func(n int) string { return strconv.Itoa(n) }
				uid, lwps := strconv.FormatUint(uint64(p.Uid), 10), id(p.Lwps)
				if *jobs {
					lines = append(lines, []string{id(p.Pid), id(p.Ppid), id(p.Pgid), id(p.Sid), uid, p.State, lwps, id(p.Files), dash(c.show(p.Login)), dash(c.show(p.Wmesg)), c.show(p.Name)})
				} else {
					lines = append(lines, []string{id(p.Pid), id(p.Ppid), uid, p.State, lwps, dash(c.show(p.Wmesg)), c.show(p.Name)})
				}
			}
			table(c.out, format, lines)
			return nil
		}
	},
}

var fstatVerb = &verb{
	name: "fstat", group: groupKernel, synopsis: []string{"[-p PID]"}, max: 0,
	short: "show the open files of the kernel",
	long: []string{
		"Shows one line a descriptor that is open, of all processes or of the one with the number PID: the process's name and number, the descriptor and what it is, r or w or both for how it was opened, and then, for files, the mode, the size in bytes, the mount with the file's number, and the path by which it was opened; for sockets their address and the other end's; for a kqueue how many events it watches for.",
		"--json is an array of objects with pid, uid, name, fd, type, access, mount, fstype, fileid, mode (a number with the bits of the type), size, path, local, peer and events.",
	},
	examples: []example{{"rumpus fstat -p 7", "What process 7 has open."}},
	exit:     []string{"1 also if there is no process PID."},
	setup: func(fs *pflag.FlagSet) runFunc {
		pid := fs.IntP("pid", "p", -1, "only process `PID`")
		return func(ctx context.Context, c *call, _ []string) error {
			k, err := c.kernel(ctx)
			if err != nil {
				return err
			}
			rows, err := k.Filestat(ctx, max(*pid, -1))
			if err != nil {
				return err
			}
			if c.json {
				if rows == nil {
					rows = []rumpclient.Filestat{}
				}
				return writeJSON(c.out, rows)
			}
			lines := [][]string{{"CMD", "PID", "FD", "TYPE", "RW", "MODE", "SIZE", "WHERE"}}
			for i := range rows {
				f := &rows[i]
				lines = append(lines, []string{c.show(f.Name), strconv.Itoa(f.Pid), strconv.Itoa(f.Fd), c.show(f.Type), dash(c.show(f.Access)),
					modeString(abi.ModeType(f.Mode), f.Mode), strconv.FormatInt(f.Size, 10), c.show(fileWhere(f))})
			}
			table(c.out, "lrrlllrl", lines)
			return nil
		}
	},
}

// fileWhere says what a descriptor refers to, "-" if nothing is known.
func fileWhere(f *rumpclient.Filestat) string {
	switch {
	case f.Type == "kqueue":
		return strconv.Itoa(f.Events) + " events"
	case f.Local != "" && f.Peer != "":
		return f.Local + " <-> " + f.Peer
	case f.Local != "":
		return f.Local
	case f.Mount != "":
		return f.Mount + " #" + strconv.FormatUint(f.Fileid, 10) + " " + dash(f.Path)
	}
	return dash(f.Path)
}
