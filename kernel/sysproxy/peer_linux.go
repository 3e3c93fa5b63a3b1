package sysproxy

import "golang.org/x/sys/unix"

// peerOf asks the host who connected the unix socket fd.
func peerOf(fd int) (Peer, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{Uid: u.Uid, Gid: u.Gid, Pid: u.Pid}, nil
}
