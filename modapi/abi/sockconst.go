package abi

// Address families, sys/socket.h. PF_* are the same numbers.
const (
	AF_UNSPEC    = 0
	AF_LOCAL     = 1 // within this kernel, sockets named by paths
	AF_UNIX      = AF_LOCAL
	AF_INET      = 2 // IPv4
	AF_NS        = 6
	AF_ISO       = 7
	AF_CCITT     = 10
	AF_SNA       = 11
	AF_APPLETALK = 16
	AF_OROUTE    = 17 // the routing messages of old programs
	AF_LINK      = 18 // link layer addresses
	AF_INET6     = 24 // IPv6
	AF_ARP       = 28
	AF_BLUETOOTH = 31
	AF_IEEE80211 = 32
	AF_MPLS      = 33
	AF_ROUTE     = 34 // routing messages
	AF_CAN       = 35
	AF_ETHER     = 36
	AF_MAX       = 37
)

// Socket types, and the flags that socket(2), socketpair(2) and paccept(2)
// take together with the type.
const (
	SOCK_STREAM     = 1 // bytes in order
	SOCK_DGRAM      = 2 // datagrams
	SOCK_RAW        = 3 // below the transport
	SOCK_RDM        = 4 // reliable datagrams
	SOCK_SEQPACKET  = 5 // records in order
	SOCK_CONN_DGRAM = 6 // datagrams with connections

	SOCK_CLOEXEC    = 0x10000000 // descriptor closes on exec
	SOCK_NONBLOCK   = 0x20000000 // descriptor never waits
	SOCK_NOSIGPIPE  = 0x40000000 // EPIPE without SIGPIPE
	SOCK_FLAGS_MASK = 0xf0000000 // mask of the flags
)

// SOL_SOCKET is the level of options of every socket.
const SOL_SOCKET = 0xffff

// Options at SOL_SOCKET. Those below 0x1000, and the three marked, are bits of
// the socket (so_options).
const (
	SO_DEBUG        = 0x0001
	SO_ACCEPTCONN   = 0x0002 // listens; read only
	SO_REUSEADDR    = 0x0004 // local address may be in use
	SO_KEEPALIVE    = 0x0008 // probe idle connections
	SO_DONTROUTE    = 0x0010 // only directly connected networks
	SO_BROADCAST    = 0x0020 // may send broadcasts
	SO_USELOOPBACK  = 0x0040 // routing socket hears its own messages
	SO_LINGER       = 0x0080 // struct linger: close waits for data to leave
	SO_OOBINLINE    = 0x0100 // urgent data in the stream
	SO_REUSEPORT    = 0x0200 // local address and port may be in use
	SO_NOSIGPIPE    = 0x0800 // EPIPE without SIGPIPE
	SO_ACCEPTFILTER = 0x1000 // bit: has an accept filter
	SO_TIMESTAMP    = 0x2000 // bit: control message with the time of arrival
	SO_RERROR       = 0x4000 // bit: receive overflow is reported as ENOBUFS

	SO_SNDBUF     = 0x1001 // int, bytes
	SO_RCVBUF     = 0x1002 // int, bytes
	SO_SNDLOWAT   = 0x1003 // int, bytes
	SO_RCVLOWAT   = 0x1004 // int, bytes
	SO_ERROR      = 0x1007 // int: pending error, cleared by reading; read only
	SO_TYPE       = 0x1008 // int: SOCK_*; read only
	SO_OVERFLOWED = 0x1009 // int: datagrams dropped; read only
	SO_NOHEADER   = 0x100a // int: no headers in raw datagrams
	SO_SNDTIMEO   = 0x100b // struct timeval, 0 = no limit
	SO_RCVTIMEO   = 0x100c // struct timeval, 0 = no limit
)

// Flags of send(2) and recv(2).
const (
	MSG_OOB          = 0x0001 // urgent data
	MSG_PEEK         = 0x0002 // leave the data in place
	MSG_DONTROUTE    = 0x0004 // only directly connected networks
	MSG_EOR          = 0x0008 // end of a record
	MSG_TRUNC        = 0x0010 // result: data was cut off
	MSG_CTRUNC       = 0x0020 // result: control data was cut off
	MSG_WAITALL      = 0x0040 // wait for all that was asked for
	MSG_DONTWAIT     = 0x0080 // EAGAIN instead of waiting
	MSG_BCAST        = 0x0100 // result: came by broadcast
	MSG_MCAST        = 0x0200 // result: came by multicast
	MSG_NOSIGNAL     = 0x0400 // EPIPE without SIGPIPE
	MSG_CMSG_CLOEXEC = 0x0800 // descriptors received close on exec
	MSG_NBIO         = 0x1000 // as MSG_DONTWAIT, set for O_NONBLOCK
	MSG_WAITFORONE   = 0x2000 // recvmmsg: wait for the first only

	MSG_USERFLAGS = 0x0ffffff // what a caller may set
)

// How shutdown(2) shuts down.
const (
	SHUT_RD   = 0
	SHUT_WR   = 1
	SHUT_RDWR = 2
)

// Control messages at SOL_SOCKET.
const (
	SCM_RIGHTS    = 0x01 // array of descriptors, 4 bytes each
	SCM_TIMESTAMP = 0x08 // struct timeval
	SCM_CREDS     = 0x10 // struct sockcred
)

// SOMAXCONN is the default bound of listen(2), kern.somaxconn.
const SOMAXCONN = 128

// Protocols, also the level of their options.
const (
	IPPROTO_IP       = 0
	IPPROTO_HOPOPTS  = 0
	IPPROTO_ICMP     = 1
	IPPROTO_IGMP     = 2
	IPPROTO_IPV4     = 4
	IPPROTO_TCP      = 6
	IPPROTO_UDP      = 17
	IPPROTO_DCCP     = 33
	IPPROTO_IPV6     = 41
	IPPROTO_ROUTING  = 43
	IPPROTO_FRAGMENT = 44
	IPPROTO_GRE      = 47
	IPPROTO_ESP      = 50
	IPPROTO_AH       = 51
	IPPROTO_ICMPV6   = 58
	IPPROTO_NONE     = 59
	IPPROTO_DSTOPTS  = 60
	IPPROTO_ETHERIP  = 97
	IPPROTO_PIM      = 103
	IPPROTO_CARP     = 112
	IPPROTO_L2TP     = 115
	IPPROTO_SCTP     = 132
	IPPROTO_RAW      = 255
	IPPROTO_MAX      = 256
)

// Options at IPPROTO_TCP, int unless said otherwise.
const (
	TCP_NODELAY   = 1    // send small segments at once
	TCP_MAXSEG    = 2    // bytes
	TCP_KEEPIDLE  = 3    // seconds
	TCP_KEEPINTVL = 5    // seconds
	TCP_KEEPCNT   = 6    // probes
	TCP_KEEPINIT  = 7    // seconds until a connect gives up
	TCP_INFO      = 9    // struct tcp_info; read only
	TCP_MD5SIG    = 0x10 // RFC 2385
	TCP_CONGCTL   = 0x20 // string: congestion control
)

// Options at IPPROTO_IP.
const (
	IP_OPTIONS         = 1
	IP_HDRINCL         = 2 // raw datagrams bring their header
	IP_TOS             = 3
	IP_TTL             = 4
	IP_RECVOPTS        = 5
	IP_RECVRETOPTS     = 6
	IP_RECVDSTADDR     = 7
	IP_RETOPTS         = 8
	IP_MULTICAST_IF    = 9
	IP_MULTICAST_TTL   = 10
	IP_MULTICAST_LOOP  = 11
	IP_ADD_MEMBERSHIP  = 12
	IP_DROP_MEMBERSHIP = 13
	IP_PORTALGO        = 18
	IP_PORTRANGE       = 19
	IP_RECVIF          = 20
	IP_ERRORMTU        = 21
	IP_IPSEC_POLICY    = 22
	IP_RECVTTL         = 23
	IP_MINTTL          = 24
	IP_PKTINFO         = 25
	IP_RECVPKTINFO     = 26
	IP_BINDANY         = 27
	IP_SENDSRCADDR     = IP_RECVDSTADDR
)

// Options at IPPROTO_IPV6.
const (
	IPV6_UNICAST_HOPS   = 4
	IPV6_MULTICAST_IF   = 9
	IPV6_MULTICAST_HOPS = 10
	IPV6_MULTICAST_LOOP = 11
	IPV6_JOIN_GROUP     = 12
	IPV6_LEAVE_GROUP    = 13
	IPV6_PORTRANGE      = 14
	IPV6_CHECKSUM       = 26
	IPV6_V6ONLY         = 27 // no IPv4-mapped addresses; on by default
	IPV6_IPSEC_POLICY   = 28
	IPV6_RTHDRDSTOPTS   = 35
	IPV6_RECVPKTINFO    = 36
	IPV6_RECVHOPLIMIT   = 37
	IPV6_RECVRTHDR      = 38
	IPV6_RECVHOPOPTS    = 39
	IPV6_RECVDSTOPTS    = 40
	IPV6_USE_MIN_MTU    = 42
	IPV6_RECVPATHMTU    = 43
	IPV6_PATHMTU        = 44
	IPV6_PKTINFO        = 46
	IPV6_HOPLIMIT       = 47
	IPV6_NEXTHOP        = 48
	IPV6_HOPOPTS        = 49
	IPV6_DSTOPTS        = 50
	IPV6_RTHDR          = 51
	IPV6_RECVTCLASS     = 57
	IPV6_TCLASS         = 61
	IPV6_DONTFRAG       = 62
)

// SOL_LOCAL is the level of options of AF_LOCAL sockets, with its options.
const (
	SOL_LOCAL      = 0
	LOCAL_OCREDS   = 1 // credentials in the old form
	LOCAL_CONNWAIT = 2 // connect waits for accept
	LOCAL_PEEREID  = 3 // struct unpcbid: who is at the other end
	LOCAL_CREDS    = 4 // credentials with the next message
)

// Flags of a network interface (net/if.h).
const (
	IFF_UP          = 0x0001 // configured up
	IFF_BROADCAST   = 0x0002 // has a broadcast address
	IFF_DEBUG       = 0x0004
	IFF_LOOPBACK    = 0x0008
	IFF_POINTOPOINT = 0x0010
	IFF_RUNNING     = 0x0040 // resources allocated
	IFF_NOARP       = 0x0080
	IFF_PROMISC     = 0x0100 // receives all packets
	IFF_ALLMULTI    = 0x0200 // receives all multicast packets
	IFF_OACTIVE     = 0x0400 // transmission in progress
	IFF_SIMPLEX     = 0x0800 // does not hear itself
	IFF_LINK0       = 0x1000 // for the driver
	IFF_LINK1       = 0x2000
	IFF_LINK2       = 0x4000
	IFF_MULTICAST   = 0x8000
)
