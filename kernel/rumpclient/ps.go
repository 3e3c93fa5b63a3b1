package rumpclient

import (
	"context"

	"github.com/rumpus-kernel/rumpus/modapi/abi"
)

// Procstat is a process of the kernel as ps(1) shows it.
type Procstat struct {
	Pid   int    `json:"pid"`
	Ppid  int    `json:"ppid"`
	Pgid  int    `json:"pgid"`
	Sid   int    `json:"sid"`
	Uid   uint32 `json:"uid"`
	Gid   uint32 `json:"gid"`
	State string `json:"state"` // T stopped, R in a system call, S waiting in one, I in none
	Lwps  int    `json:"lwps"`  // system calls in progress
	Files int    `json:"files"` // open descriptors
	Wmesg string `json:"wmesg"` // what it sleeps on, "" if nothing is known
	Login string `json:"login"`
	Name  string `json:"name"`
}

// Filestat is an open descriptor as fstat(1) shows it.
type Filestat struct {
	Pid    int    `json:"pid"`
	Uid    uint32 `json:"uid"`
	Name   string `json:"name"` // of the process
	Fd     int    `json:"fd"`
	Type   string `json:"type"`   // vnode, socket, pipe, kqueue, misc
	Access string `json:"access"` // r, w, rw
	Mount  string `json:"mount"`
	Fstype string `json:"fstype"`
	Fileid uint64 `json:"fileid"`
	Mode   uint32 `json:"mode"` // S_IF* and permissions
	Size   int64  `json:"size"`
	Path   string `json:"path"`  // as it was opened
	Local  string `json:"local"` // addresses of a socket
	Peer   string `json:"peer"`
	Events int    `json:"events"` // knotes of a kqueue
}

// Procstat lists the processes, by pid.
func (c *Client) Procstat(ctx context.Context) ([]Procstat, error) {
	return list[Procstat](ctx, c, abi.SYS_procstat, "", func() *abi.Sysargs { return args() })
}

// Filestat lists the open descriptors of a process, or of all if pid is -1.
func (c *Client) Filestat(ctx context.Context, pid int) ([]Filestat, error) {
	return list[Filestat](ctx, c, abi.SYS_filestat, "", func() *abi.Sysargs { return args(pid) })
}
