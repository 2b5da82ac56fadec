// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The steering program: hands the packets that a process has claimed to its AF_XDP socket, and passes all others on to
// the kernel.
//
// A receive queue has one owner, since the kernel allows one UMEM a queue. The owner has put its AF_XDP socket into
// `xsks` and its table of claims into `claims_by_queue`, both under the queue's number. When it dies, however it dies,
// the kernel empties its slot in `xsks` and the queue's packets pass; the next owner's table takes the old one's place
// before its socket comes, so that no claim outlives its process.

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Receive queues that can be owned: QUEUES_MAX of the loader.
#define QUEUES_MAX 64

// More fragments (MF), or a fragment offset other than 0 (RFC 791); the offset alone.
#define IP_FRAGMENT_MASK 0x3fff
#define IP_OFFSET_MASK 0x1fff

// The types of the ICMP errors (RFC 792): destination unreachable, time exceeded, parameter problem.
#define ICMP_DEST_UNREACH 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12

// The same of ICMPv6 (RFC 4443); packet too big and time exceeded stand between them.
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PARAMPROB 4

// What a process claims; struct ClaimKey of the loader has the same layout.
struct claim {
	__u8 address[16]; // IPv4: the first four bytes. All zero: every address of that version.
	__be16 port;
	__u8 protocol;
	__u8 version; // 4 or 6
};

// Which segments that open a connection (SYN without ACK) a claim takes; Opens of the loader has the same values.
#define OPENS_NONE 0
#define OPENS_LATER 1 // Of those that are counted, none is left now. One more than this: the next one. And so on.
#define OPENS_ALL 0xffffffff

// One owner's claims, and what they open. Here it is only the pattern that the owners' own tables, which are larger,
// have to fit.
struct claims {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct claim));
	__uint(value_size, sizeof(__u32));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__array(values, struct claims);
} claims_by_queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

// Connections that are ours, where nothing else would say so: one in place of another that the kernel remembers, and
// one of those that were counted, so that its SYN is ours when it comes again. After a minute nobody asks for the entry;
// the least recently used makes room.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct bpf_sock_tuple);
	__type(value, __u8);
} ours SEC(".maps");

// What follows the EtherType of an 802.1Q or 802.1ad tag.
struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

// What the program has to know of a packet.
struct packet {
	struct claim claim; // The one that it falls under.
	bool opening; // It opens a TCP connection: SYN without ACK.
	__u32 *opens; // What the claim opens, once it is known.
	bool to_group; // It is broadcast or multicast.
	struct bpf_sock_tuple tuple; // The connection that it belongs to, or that an ICMP error is about.
};

// In front of what an ICMP error quotes. <linux/icmp.h> needs the C library.
struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 rest;
};

// What an ICMP error quotes of a TCP header at least (RFC 792): eight bytes.
struct quoted_transport {
	__be16 source;
	__be16 dest;
	__be32 rest;
};

static __always_inline void set_ports(struct packet *packet, __be16 remote, __be16 local)
{
	packet->claim.port = local;
	if (packet->claim.version == 4) {
		packet->tuple.ipv4.sport = remote;
		packet->tuple.ipv4.dport = local;
	} else {
		packet->tuple.ipv6.sport = remote;
		packet->tuple.ipv6.dport = local;
	}
}

// Reads what a transport header says.
static __always_inline bool parse_transport(void *at, void *end, struct packet *packet)
{
	if (packet->claim.protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;
		if ((void *)(tcp + 1) > end)
			return false;
		packet->opening = tcp->syn && !tcp->ack;
		set_ports(packet, tcp->source, tcp->dest);
		return true;
	}
	if (packet->claim.protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;
		if ((void *)(udp + 1) > end)
			return false;
		set_ports(packet, udp->source, udp->dest);
		return true;
	}
	return false;
}

// The beginning of a packet that came from here: its source is what is local. An error about a datagram is the kernel's,
// which has a socket for it, and perhaps a queue of errors (IP_RECVERR).
static __always_inline bool parse_quoted_transport(void *at, void *end, struct packet *packet)
{
	struct quoted_transport *quoted = at;
	if (packet->claim.protocol != IPPROTO_TCP)
		return false;
	if ((void *)(quoted + 1) > end)
		return false;
	set_ports(packet, quoted->dest, quoted->source);
	return true;
}

// An error belongs to whom the packet that it quotes came from. RFC 792.
static __always_inline bool parse_icmpv4(void *at, void *end, struct packet *packet)
{
	struct icmp_header *icmp = at;
	struct iphdr *ip = (void *)(icmp + 1);
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5)
		return false;
	if (icmp->type != ICMP_DEST_UNREACH && icmp->type != ICMP_TIME_EXCEEDED && icmp->type != ICMP_PARAMETERPROB)
		return false;
	if (ip->frag_off & bpf_htons(IP_OFFSET_MASK))
		return false;
	packet->claim.protocol = ip->protocol;
	__builtin_memcpy(packet->claim.address, &ip->saddr, sizeof(ip->saddr));
	packet->tuple.ipv4.saddr = ip->daddr;
	packet->tuple.ipv4.daddr = ip->saddr;
	return parse_quoted_transport(ip + 1, end, packet);
}

// The same in RFC 4443.
static __always_inline bool parse_icmpv6(void *at, void *end, struct packet *packet)
{
	struct icmp_header *icmp = at;
	struct ipv6hdr *ip = (void *)(icmp + 1);
	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	if (icmp->type < ICMPV6_DEST_UNREACH || icmp->type > ICMPV6_PARAMPROB)
		return false;
	packet->claim.protocol = ip->nexthdr;
	__builtin_memcpy(packet->claim.address, &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(packet->tuple.ipv6.saddr, &ip->daddr, sizeof(ip->daddr));
	__builtin_memcpy(packet->tuple.ipv6.daddr, &ip->saddr, sizeof(ip->saddr));
	return parse_quoted_transport(ip + 1, end, packet);
}

// Only without options, so that the transport header's place is known, and unfragmented.
static __always_inline bool parse_ipv4(void *at, void *end, struct packet *packet)
{
	struct iphdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5)
		return false;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK))
		return false;
	packet->claim.version = 4;
	if (ip->protocol == IPPROTO_ICMP)
		return parse_icmpv4(ip + 1, end, packet);
	packet->claim.protocol = ip->protocol;
	__builtin_memcpy(packet->claim.address, &ip->daddr, sizeof(ip->daddr));
	packet->tuple.ipv4.saddr = ip->saddr;
	packet->tuple.ipv4.daddr = ip->daddr;
	return parse_transport(ip + 1, end, packet);
}

// Only without extension headers, the fragment header among them.
static __always_inline bool parse_ipv6(void *at, void *end, struct packet *packet)
{
	struct ipv6hdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	packet->claim.version = 6;
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return parse_icmpv6(ip + 1, end, packet);
	packet->claim.protocol = ip->nexthdr;
	__builtin_memcpy(packet->claim.address, &ip->daddr, sizeof(ip->daddr));
	__builtin_memcpy(packet->tuple.ipv6.saddr, &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(packet->tuple.ipv6.daddr, &ip->daddr, sizeof(ip->daddr));
	return parse_transport(ip + 1, end, packet);
}

// Reads the claim that a frame falls under, if it is of a kind that can be claimed. In a frame of several buffers only
// the first one is looked at: drivers put the headers there.
static __always_inline bool parse_frame(struct xdp_md *ctx, struct packet *packet)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) > end)
		return false;
	packet->to_group = ethernet->h_dest[0] & 1;
	__be16 ethertype = ethernet->h_proto;
	void *at = ethernet + 1;
	if (ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD)) {
		struct vlan_tag *tag = at;
		if ((void *)(tag + 1) > end)
			return false;
		ethertype = tag->ethertype;
		at = tag + 1;
	}
	if (ethertype == bpf_htons(ETH_P_IP))
		return parse_ipv4(at, end, packet);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(at, end, packet);
	return false;
}

static __always_inline bool is_known(struct packet *packet)
{
	return bpf_map_lookup_elem(&ours, &packet->tuple);
}

static __always_inline bool note(struct packet *packet)
{
	__u8 one = 1;
	return bpf_map_update_elem(&ours, &packet->tuple, &one, BPF_ANY) == 0;
}

static __always_inline bool holds(void *claims, struct packet *packet)
{
	__u32 *opens = bpf_map_lookup_elem(claims, &packet->claim);
	packet->opens = opens;
	if (!opens || !packet->opening)
		return opens;
	return *opens == OPENS_LATER ? is_known(packet) : *opens != OPENS_NONE;
}

// Counts a segment that opens a connection, where the claim is for so many of them. False: there were enough.
static __always_inline bool opens(struct packet *packet)
{
	__u32 left = *packet->opens;
	if (left == OPENS_ALL || left == OPENS_LATER || is_known(packet))
		return true;
	return left != OPENS_NONE && note(packet) && __sync_val_compare_and_swap(packet->opens, left, left - 1) == left;
}

// Whether a packet belongs to a connection of the kernel's. There are such on a claimed port: who listens on it does so
// in the kernel, too, and what was accepted there before the port was claimed, or while nobody owned the queue, stays
// there until it is over.
//
// In TIME-WAIT, and in FIN-WAIT-2 once it is closed, the kernel only remembers a connection. What is left of that one is
// the kernel's; a SYN begins a new one, which is not, and neither is what then follows.
static __always_inline bool is_kernels(struct xdp_md *ctx, struct packet *packet)
{
	__u32 len = packet->claim.version == 4 ? sizeof(packet->tuple.ipv4) : sizeof(packet->tuple.ipv6);
	struct bpf_sock *sock = bpf_skc_lookup_tcp(ctx, &packet->tuple, len, BPF_F_CURRENT_NETNS, 0);
	if (!sock)
		return false;
	__u32 state = sock->state;
	bpf_sk_release(sock);
	if (state == BPF_TCP_LISTEN || state == BPF_TCP_CLOSE)
		return false;
	if (state != BPF_TCP_TIME_WAIT)
		return true;
	if (!packet->opening)
		return !is_known(packet);
	return !note(packet);
}

// Whether a datagram is for a socket of the kernel's that names its address, where only a claim of every address covers
// it: somebody else's, or one of ours that is not served.
static __always_inline bool is_for_exact_socket(struct xdp_md *ctx, struct packet *packet)
{
	__u32 len = packet->claim.version == 4 ? sizeof(packet->tuple.ipv4) : sizeof(packet->tuple.ipv6);
	struct bpf_sock *sock = bpf_sk_lookup_udp(ctx, &packet->tuple, len, BPF_F_CURRENT_NETNS, 0);
	if (!sock)
		return false;
	bool is_exact = packet->claim.version == 4 ? sock->src_ip4
						   : sock->src_ip6[0] | sock->src_ip6[1] | sock->src_ip6[2] | sock->src_ip6[3];
	bpf_sk_release(sock);
	return is_exact;
}

// The number in the name changes with the layout of the maps and the meaning of what is in them: processes share the
// program only if they agree on both.
SEC("xdp.frags")
int userstack_7(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;
	void *claims = bpf_map_lookup_elem(&claims_by_queue, &queue);
	if (!claims)
		return XDP_PASS;

	struct packet packet = {};
	if (!parse_frame(ctx, &packet))
		return XDP_PASS;
	bool is_datagram = packet.claim.protocol == IPPROTO_UDP;
	// Every socket of a group gets its datagrams: the kernel knows them all. TCP has no groups, and is dropped there.
	if (packet.to_group)
		return XDP_PASS;
	if (!holds(claims, &packet)) {
		__builtin_memset(packet.claim.address, 0, sizeof(packet.claim.address));
		if (!holds(claims, &packet))
			return XDP_PASS;
		if (is_datagram && is_for_exact_socket(ctx, &packet))
			return XDP_PASS;
	}
	if (packet.claim.protocol == IPPROTO_TCP && is_kernels(ctx, &packet))
		return XDP_PASS;
	if (packet.opening && !opens(&packet))
		return XDP_PASS;
	return bpf_redirect_map(&xsks, queue, XDP_PASS);
}

// The kernel's helpers used here are open to programs of any licence.
char _license[] SEC("license") = "Dual MIT/GPL";
