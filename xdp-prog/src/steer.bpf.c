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

// More fragments (MF), or a fragment offset other than 0 (RFC 791).
#define IP_FRAGMENT_MASK 0x3fff

// What a process claims; struct ClaimKey of the loader has the same layout.
struct claim {
	__u8 address[16]; // IPv4: the first four bytes. All zero: every address of that version.
	__be16 port;
	__u8 protocol;
	__u8 version; // 4 or 6
};

// One owner's claims. The value is 1 if segments that open a connection are claimed too, otherwise 0. Here it is only
// the pattern that the owners' own tables, which are larger, have to fit.
struct claims {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct claim));
	__uint(value_size, sizeof(__u8));
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

// What follows the EtherType of an 802.1Q or 802.1ad tag.
struct vlan_tag {
	__be16 control;
	__be16 ethertype;
};

// Reads what a transport header says of the destination, and whether it opens a TCP connection (SYN without ACK).
static __always_inline bool parse_transport(void *at, void *end, struct claim *claim, bool *opening)
{
	if (claim->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = at;
		if ((void *)(tcp + 1) > end)
			return false;
		claim->port = tcp->dest;
		*opening = tcp->syn && !tcp->ack;
		return true;
	}
	if (claim->protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;
		if ((void *)(udp + 1) > end)
			return false;
		claim->port = udp->dest;
		return true;
	}
	return false;
}

// Only without options, so that the transport header's place is known, and unfragmented.
static __always_inline bool parse_ipv4(void *at, void *end, struct claim *claim, bool *opening)
{
	struct iphdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5)
		return false;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK))
		return false;
	claim->version = 4;
	claim->protocol = ip->protocol;
	__builtin_memcpy(claim->address, &ip->daddr, sizeof(ip->daddr));
	return parse_transport(ip + 1, end, claim, opening);
}

// Only without extension headers, the fragment header among them.
static __always_inline bool parse_ipv6(void *at, void *end, struct claim *claim, bool *opening)
{
	struct ipv6hdr *ip = at;
	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	claim->version = 6;
	claim->protocol = ip->nexthdr;
	__builtin_memcpy(claim->address, &ip->daddr, sizeof(ip->daddr));
	return parse_transport(ip + 1, end, claim, opening);
}

// Reads the claim that a frame falls under, if it is of a kind that can be claimed. In a frame of several buffers only
// the first one is looked at: drivers put the headers there.
static __always_inline bool parse_frame(struct xdp_md *ctx, struct claim *claim, bool *opening)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) > end)
		return false;
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
		return parse_ipv4(at, end, claim, opening);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(at, end, claim, opening);
	return false;
}

static __always_inline bool holds(void *claims, struct claim *claim, bool opening)
{
	__u8 *opens = bpf_map_lookup_elem(claims, claim);
	return opens && (*opens || !opening);
}

// The number in the name changes with the layout of the maps and the meaning of what is in them: processes share the
// program only if they agree on both.
SEC("xdp.frags")
int userstack_1(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;
	void *claims = bpf_map_lookup_elem(&claims_by_queue, &queue);
	if (!claims)
		return XDP_PASS;

	struct claim claim = {};
	bool opening = false;
	if (!parse_frame(ctx, &claim, &opening))
		return XDP_PASS;
	if (!holds(claims, &claim, opening)) {
		__builtin_memset(claim.address, 0, sizeof(claim.address));
		if (!holds(claims, &claim, opening))
			return XDP_PASS;
	}
	return bpf_redirect_map(&xsks, queue, XDP_PASS);
}

// The kernel's helpers used here are open to programs of any licence.
char _license[] SEC("license") = "Dual MIT/GPL";
