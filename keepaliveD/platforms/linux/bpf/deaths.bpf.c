// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Tells of each connection that ends otherwise than by an ordinary close, and counts the ordinary ones.
 *
 * A connection ends at its one change to TCP_CLOSE. What the kernel forgets before is kept until then: of a
 * connection in its socket (`evidence`, which only few sockets get), of a peer in `hosts`, and what concerns
 * no socket in `flows`; of loopback and of other network namespaces elsewhere, since any user can fill these. The
 * programs run for the whole machine: each first drops what is none of its business.
 */
#include "errors.h"
#include "packet.h"
#include "record.h"
#include "room.h"
#include "worker.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { EARLY = 8 }; /* packets of a connection from which a hop limit may be learnt; later it is known */
enum { SENDING = 2, WHOLE = 3 }; /* directions of sk_shutdown */
enum { DROP = 0, PASS = 1, HOSTS = 8192, FLOWS = 8192, PROCESSORS = 64, LOOPBACK = 1, NAME = 16 };
enum { ECONNABORTED = 103, ECONNRESET = 104, EPIPE = 32, ETIMEDOUT = 110 };
enum { NOT_RESET, RESET_RECEIVED, RESET_UNSEEN }; /* model.deaths.Reset */

#define ONE_OF(state, states) (1U << (state) & (states))
#define OPEN (1 << TCP_ESTABLISHED | 1 << TCP_CLOSE_WAIT)
#define CONNECTED (OPEN | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_LAST_ACK | 1 << TCP_CLOSING)

/* deaths.WANTED is its twin */
const volatile struct {
	__u32 idle; /* jiffies of silence after which it is told that the peer closed */
	__u32 packets; /* whether see_packet is attached */
	__u32 netns; /* in which ends of open connections are counted */
	__u32 own; /* whether no other ends than those in netns are seen */
	__u64 errors[2]; /* cookies of the sockets that read ICMP errors, 0 where there is none */
} wanted;

/* deaths.RECORD is its twin. Times are in jiffies, unless they say otherwise; NEVER where there is none. */
struct death {
	__u64 cookie;
	__u64 cgroup;
	struct address local, remote;
	__u64 ended_at; /* ns of CLOCK_BOOTTIME */
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 netns;
	__u32 inode;
	__u32 uid;
	__u32 keepidle;
	__u32 keepintvl;
	__u32 user_timeout; /* ms */
	__u32 unacked;
	__u32 unsent;
	__u32 unread;
	__u32 window;
	__u32 closer_pid;
	__u32 reset_label;
	__u32 peer_label;
	__u32 since_sent;
	__u32 since_received;
	__u32 since_acked;
	__u32 since_lost; /* ms */
	__u32 timeout; /* us, before it was doubled */
	__u32 since_fin;
	__u32 since_peer_probe;
	__u32 peer_probe_gap; /* between its last two */
	__u32 since_syn;
	__u32 fin_silence;
	__u32 first_unacked; /* its sequence number */
	__u16 error;
	__u16 soft_error;
	__u16 reset_id;
	__u16 reset_window;
	__u16 dropped_by_firewall;
	__u16 dropped_leaving; /* of these, those that were to leave this host */
	__u16 dropped_by_md5;
	__u16 afterwards;
	__u16 unrouted; /* packets that found no route here since the peer was heard */
	__u16 discarded; /* packets that this host dropped for another reason since then */
	__u16 local_port;
	__u16 remote_port;
	__u8 state; /* 0: not a death, but `afterwards` of an earlier one with this cookie */
	__u8 shutdown;
	__u8 retransmits;
	__u8 probes;
	__u8 keepcnt;
	__u8 keepalive;
	__u8 peer_probes;
	__u8 reset;
	__u8 reset_flags;
	__u8 reset_ttl;
	__u8 peer_ttl;
	__u8 syn_ttl;
	__u8 reset_timestamps;
	__u8 timestamps;
	__u8 reset_local;
	__u8 sent_reset;
	__u8 fin_first;
	__u8 signal;
	__u8 exiting;
	__u8 out_of_memory;
	__u8 by_kernel;
	__u8 no_carrier; /* whether the link over which it sends has none */
	__u8 unkept; /* whether nothing is kept of the packets of its namespace */
	char closer[NAME];
};

#define NEVER (~0U)
#define HOUR (3600ULL * 1000 * 1000 * 1000) /* ns */

/* What a reset, a FIN, a probe, a SYN or a dying program leaves in a socket until it ends. Instants are in
 * jiffies, 0 where there was none.
 */
struct evidence {
	__u32 reset_label;
	__u32 fin_at;
	__u32 fin_silence;
	__u32 probe_at;
	__u32 probe_gap; /* since the one before, 0 if there was none */
	__u32 syn_at;
	__u32 closer_pid;
	__u16 reset_id;
	__u16 reset_window;
	__u8 reset_seen;
	__u8 reset_exact;
	__u8 reset_flags;
	__u8 reset_ttl;
	__u8 reset_timestamps;
	__u8 reset_local;
	__u8 peer_ttl;
	__u8 syn_ttl;
	__u8 peer_probes;
	__u8 forged_here; /* a packet came over loopback, and those before it from the network */
	__u8 signal;
	__u8 out_of_memory;
	__u8 half_closed; /* when the signal ended its program, that had closed one direction at least */
	char closer[NAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct evidence);
} evidences SEC(".maps");

/* With which hop limit packets of a service arrive: of connections older than us it may be learnt from another one.
 * A device may lead the ports of one address to several hosts, so that each port is a service. Of a client it is learnt
 * by the service of this host that it uses: for a connection to another one any user may take a low port.
 */
#define OF_THIS_HOST (1 << 16)

struct host {
	struct address address;
	__u32 netns;
	__u32 service; /* its port; of one of this host's, whose client it is, with OF_THIS_HOST */
};

struct habit {
	__u64 varied_at; /* ns of CLOCK_BOOTTIME, 0 never: when it came from another distance than the time before */
	__u64 ttl;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HOSTS);
	__type(key, struct host);
	__type(value, struct habit);
} hosts SEC(".maps"), hosts_elsewhere SEC(".maps");

struct flow {
	struct address local, remote;
	__u32 netns;
	__u16 local_port;
	__u16 remote_port;
};

/* Of one that lives, which of its packets were dropped here; of one that was reset, what came afterwards. */
struct fate {
	__u64 cookie; /* 0 while it lives */
	__u16 dropped_by_firewall;
	__u16 dropped_by_md5;
	__u16 afterwards;
	__u16 dropped_leaving;
	__u32 astray_at; /* jiffies, when the last packet found no route here, or was discarded */
	__u32 dropped_at; /* likewise, by a firewall or for a signature */
	__u16 unrouted; /* of those since the peer was heard */
	__u16 discarded;
	__u16 unused[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow);
	__type(value, struct fate);
} flows SEC(".maps"), flows_elsewhere SEC(".maps");

/* deaths.COUNTS is its twin: by processor, a cache line each */
struct {
	struct {
		__u64 ordinary;
		__u64 lost;
		__u64 open; /* ended while open in wanted.netns: the kernel counts these, too (EstabResets) */
		__u64 unused[5];
	} each[PROCESSORS];
	struct death none[0]; /* or the object would not say how it is laid out */
} counts;

#define COUNT(what) __sync_fetch_and_add(&counts.each[bpf_get_smp_processor_id() & (PROCESSORS - 1)].what, 1)

static __always_inline __u32 now(void)
{
	return (__u32)bpf_jiffies64() ?: 1;
}

static __always_inline __u32 since(__u32 instant, __u32 then)
{
	return instant ? then - instant : NEVER;
}

static __always_inline struct evidence *keep(const void *sk)
{
	return bpf_sk_storage_get(&evidences, (void *)sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
}

/* Packets */

struct segment {
	const struct tcp *tcp;
	struct address source;
	__u32 label;
	__u32 payload;
	__u16 id;
	__u8 ttl;
	bool by_loopback;
};

/* Of a network namespace that anybody may have made nothing is kept: he could drive out what is kept of others. */
static __always_inline bool is_anybodys(const struct net *net)
{
	return net->user_ns->level > 0;
}

static __always_inline bool is_local(const struct sock *sk)
{
	const struct dst_entry *route = sk->sk_dst_cache;

	return route && route->dev->ifindex == LOOPBACK;
}

/* Whether it goes over the network from our own network namespace: of all else any user can make as much as he likes. */
static __always_inline bool is_ours(const struct net *net, bool by_loopback)
{
	return net->ns.inum == wanted.netns && !by_loopback;
}

/* Over which interface its last packet came, 0 unknown. */
static __always_inline int came_over(const struct sock *sk)
{
	const struct sock___v5_17 *newer = (const void *)sk;

	return bpf_core_field_exists(newer->sk_rx_dst_ifindex) ? newer->sk_rx_dst_ifindex : 0;
}

static __always_inline bool has_no_carrier(const struct sock *sk)
{
	const struct dst_entry *route = sk->sk_dst_cache;

	return route && route->dev->state & 1 << LINK_STATE_NOCARRIER;
}

/* Any program may take its socket's route away. */
static __always_inline bool was_by_loopback(const struct sock *sk)
{
	return sk->sk_dst_cache ? is_local(sk) : came_over(sk) == LOOPBACK;
}

/* Somebody on this host has sent it something, in the name of the peer, whose own packets came from the network.
 * From then on its packets seem to come over loopback: see_reset() must not take this for a proxy.
 */
static __always_inline void see_forger(const struct tcp_sock *tp)
{
	const struct sock *sk = (const struct sock *)tp;
	int before = came_over(sk);
	struct evidence *evidence;

	if (!before || before == LOOPBACK || is_local(sk))
		return;
	evidence = keep(tp);
	if (evidence)
		evidence->forged_here = 1;
}

/* Of the two ports, that of a service is the lower one, all but always. */
static __always_inline __u32 service_of(__u16 local, __u16 remote)
{
	return remote < local ? remote : OF_THIS_HOST | local;
}

/* From how far it came, if it left with the least usual hop limit that is not smaller. */
static __always_inline __u64 distance(__u64 ttl)
{
	return (ttl <= 64 ? 64 : ttl <= 128 ? 128 : 255) - ttl;
}

/* Several hosts behind one port, as behind a load balancer: then nobody knows which one a connection leads to. */
static __always_inline bool varies(const struct habit *habit)
{
	return habit->varied_at && bpf_ktime_get_boot_ns() - habit->varied_at < HOUR;
}

static __always_inline void learn_in(void *map, const struct host *host, struct habit *habit)
{
	const struct habit *known = bpf_map_lookup_elem(map, host);

	if (known && known->ttl == habit->ttl)
		return;
	if (known)
		habit->varied_at = distance(known->ttl) == distance(habit->ttl) ? known->varied_at : bpf_ktime_get_boot_ns();
	bpf_map_update_elem(map, host, habit, BPF_ANY);
}

static __always_inline void learn(const struct sock_common *sk, const struct segment *segment)
{
	const struct tcp *tcp = segment->tcp;
	struct host host = {
		.address = segment->source,
		.netns = sk->skc_net.net->ns.inum,
		.service = service_of(bpf_ntohs(tcp->target), bpf_ntohs(tcp->source)),
	};
	struct habit habit = { .ttl = segment->ttl };

	if (is_anybodys(sk->skc_net.net) || (segment->by_loopback && !is_local((const struct sock *)sk)))
		return;
	if (is_ours(sk->skc_net.net, segment->by_loopback)) {
		learn_in(&hosts, &host, &habit);
	} else {
		asm volatile(""); /* or both become one, and the kernel does not inline the look-up */
		learn_in(&hosts_elsewhere, &host, &habit);
	}
}

/* TCP takes a reset at exactly rcv_nxt, or a little further on where that is not processed yet: RFC 5961, 3.2. */
static __always_inline void see_reset(struct __sk_buff *skb, const struct tcp_sock *tp, const struct segment *segment)
{
	const struct tcp *tcp = segment->tcp;
	__u32 ahead = bpf_ntohl(tcp->seq) - tp->rcv_nxt;
	const struct sock *sk = (const struct sock *)tp;
	struct evidence *evidence;
	__be32 option = 0;

	if (ahead && ahead >= tp->rcv_wnd)
		return;
	evidence = keep(tp);
	if (!evidence || (evidence->reset_exact && ahead))
		return;
	evidence->reset_seen = 1;
	evidence->reset_exact = !ahead;
	evidence->reset_flags = tcp->flags;
	evidence->reset_window = bpf_ntohs(tcp->window);
	evidence->reset_ttl = segment->ttl;
	evidence->reset_id = segment->id;
	evidence->reset_label = segment->label;
	evidence->reset_local = segment->by_loopback && !is_local(sk);
	if (evidence->reset_local && !evidence->forged_here && came_over(sk) == LOOPBACK) {
		evidence->reset_local = 0;
		evidence->peer_ttl = segment->ttl; /* of a connection of the proxy's own another one may be known */
	}
	if (tcp->offset >> 4 >= 8) {
		void *end = (void *)(long)skb->data_end;
		const __be32 *options = (const void *)(tcp + 1);

		if ((void *)(options + 1) <= end)
			option = *options;
	}
	evidence->reset_timestamps = option == bpf_htonl(TIMESTAMPS);
}

/* Whether it has the number that the socket expects next, which only somebody on the path knows. */
static __always_inline bool is_next(const struct tcp_sock *tp, const struct segment *segment)
{
	return bpf_ntohl(segment->tcp->seq) == tp->rcv_nxt;
}

/* Whether it acknowledges what was sent; while that is being sent, snd_nxt is not there yet. */
static __always_inline bool answers(const struct tcp_sock *tp, const struct segment *segment)
{
	__u32 acked = bpf_ntohl(segment->tcp->ack) - tp->snd_una;

	return acked && acked <= tp->write_seq - tp->snd_una;
}

/* Report a FIN that comes after a long time without data and carries none, unless it answers a close. From any other one
 * only the hop limit is learnt. Services that close idle connections count the time since the last data, and not since
 * an answer to a probe.
 */
static __always_inline void see_fin(const struct tcp_sock *tp, const struct segment *segment)
{
	__u32 then = now(), silence = then - tp->inet_conn.icsk_ack.lrcvtime, other = then - tp->lsndtime;
	const struct sock *sk = (const struct sock *)tp;
	struct evidence *evidence;

	if (!is_next(tp, segment))
		return; /* data before it is missing, or it comes once more */
	learn((const struct sock_common *)tp, segment);
	if (silence > other)
		silence = other;
	if (segment->payload || !wanted.idle || silence < wanted.idle || sk->sk_shutdown == WHOLE)
		return;
	evidence = keep(tp);
	if (!evidence)
		return;
	evidence->fin_at = then;
	evidence->fin_silence = silence;
	evidence->peer_ttl = segment->ttl;
}

static __always_inline void see_syn(const struct tcp_sock *tp, const struct segment *segment)
{
	struct evidence *evidence = keep(tp);

	if (!evidence)
		return;
	evidence->syn_at = now();
	evidence->syn_ttl = segment->ttl;
}

/* Of what bears no data: an acknowledgement of a young connection, a keepalive probe, or the answer to one. */
static __always_inline void see_bare(const struct tcp_sock *tp, const struct segment *segment)
{
	const struct sock_common *common = (const struct sock_common *)tp;
	struct evidence *evidence;

	if (is_next(tp, segment)) {
		if (tp->segs_in < EARLY || tp->inet_conn.icsk_probes_out)
			learn(common, segment);
	} else if (bpf_ntohl(segment->tcp->seq) + 1 == tp->rcv_nxt) {
		evidence = keep(tp);
		if (!evidence)
			return;
		if (evidence->peer_probes < 255)
			evidence->peer_probes++;
		if (evidence->probe_at)
			evidence->probe_gap = now() - evidence->probe_at;
		evidence->probe_at = now();
		evidence->peer_ttl = segment->ttl;
	}
}

static __always_inline bool read_headers(struct __sk_buff *skb, struct segment *segment)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 start;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		const struct ipv4 *ip = data;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return false;
		segment->source = from_v4(ip->source);
		segment->label = 0;
		segment->id = bpf_ntohs(ip->id);
		segment->ttl = ip->ttl;
		start = (ip->version_length & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6 *ip = data;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP)
			return false;
		segment->source = from_v6(ip->source);
		segment->label = bpf_ntohl(ip->version_label) & 0xfffff;
		segment->id = 0;
		segment->ttl = ip->ttl;
		start = sizeof(*ip);
	} else {
		return false;
	}
	segment->by_loopback = skb->ingress_ifindex == LOOPBACK;
	segment->tcp = data + start;
	if ((void *)(segment->tcp + 1) > end)
		return false;
	segment->payload = skb->len - start - (segment->tcp->offset >> 4) * 4;
	return true;
}

/* Of errors our own sockets receive no others than these; all other sockets receive what they did. */
static __always_inline int see_error(struct __sk_buff *skb)
{
	__u64 cookie;

	if (!wanted.errors[0] || !is_error(skb))
		return PASS;
	cookie = bpf_get_socket_cookie(skb);
	if (cookie != wanted.errors[0] && cookie != wanted.errors[1])
		return PASS;
	return quotes_ours(skb) ? PASS : DROP;
}

SEC("cgroup_skb/ingress")
int see_packet(struct __sk_buff *skb)
{
	struct segment segment;
	const struct tcp_sock *tp;
	unsigned char state;
	__u8 flags;

	if (!read_headers(skb, &segment))
		return see_error(skb);
	flags = segment.tcp->flags & (FIN | SYN | RST);
	if (!flags && segment.payload > 1 && !segment.by_loopback)
		return PASS;
	tp = skb->sk ? bpf_skc_to_tcp_sock(skb->sk) : NULL;
	if (!tp)
		return PASS;
	state = ((const struct sock_common *)tp)->skc_state;
	if (state == TCP_LISTEN)
		return PASS; /* anybody may send there, in anybody's name */
	if (segment.by_loopback && state != TCP_SYN_SENT)
		see_forger(tp);
	if (!flags && segment.payload > 1)
		return PASS;
	if (!flags) {
		see_bare(tp, &segment);
	} else if (state == TCP_SYN_SENT) {
		if (flags == SYN && answers(tp, &segment))
			learn((const struct sock_common *)tp, &segment);
	} else if (flags & RST) {
		see_reset(skb, tp, &segment);
	} else if (!(flags & SYN)) {
		see_fin(tp, &segment);
	} else if (!(segment.tcp->flags & ACK)) { /* or it is the answer to ours once more */
		see_syn(tp, &segment);
	}
	return PASS;
}

/* Packets that were dropped */

/* Its pointers are read once: each time that one is, the verifier looks through the types of the whole kernel. */
struct dropped {
	const struct sk_buff *skb;
	const struct net_device *device;
	const struct sock *sk;
	const struct net *net; /* of the socket */
};

/* Return the map of this flow, NULL if nothing is to be kept of it. */
static __always_inline void *flow_of(const struct dropped *packet, struct flow *flow, __u8 *flags)
{
	const struct sk_buff *skb = packet->skb;
	const void *ip = skb->head + skb->network_header;
	const struct net_device *device = packet->device;
	const struct sock *sk = packet->sk;
	bool leaves = !skb->skb_iif, by_loopback;
	struct address source, target;
	const struct net *net;
	struct ipv4 v4;
	struct tcp tcp;
	__u32 start;

	if (bpf_probe_read_kernel(&v4, sizeof(v4), ip))
		return NULL;
	if (v4.version_length >> 4 == 4) {
		if (v4.protocol != IPPROTO_TCP)
			return NULL;
		source = from_v4(v4.source);
		target = from_v4(v4.target);
		start = (v4.version_length & 15) * 4;
	} else {
		struct ipv6 v6;

		if (bpf_probe_read_kernel(&v6, sizeof(v6), ip) || v6.protocol != IPPROTO_TCP)
			return NULL;
		source = from_v6(v6.source);
		target = from_v6(v6.target);
		start = sizeof(v6);
	}
	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), ip + start))
		return NULL;
	*flags = tcp.flags;
	flow->local = leaves ? source : target;
	flow->remote = leaves ? target : source;
	flow->local_port = bpf_ntohs(leaves ? tcp.source : tcp.target);
	flow->remote_port = bpf_ntohs(leaves ? tcp.target : tcp.source);
	if (device) {
		net = device->nd_net.net;
		by_loopback = device->ifindex == LOOPBACK;
	} else if (sk) {
		net = packet->net;
		by_loopback = is_local(sk);
	} else {
		return NULL;
	}
	flow->netns = net->ns.inum;
	if (is_anybodys(net))
		return NULL;
	return is_ours(net, by_loopback) ? (void *)&flows : (void *)&flows_elsewhere;
}

/* Once, twice, four times and so on: a flood is not worth telling of. */
static __always_inline void tell_of_afterwards(struct fate *fate)
{
	struct death *note;
	__u16 count = fate->afterwards;

	if (count == 0xffff)
		return;
	fate->afterwards = ++count;
	if (count & (count - 1) || is_nearly_full())
		return;
	note = bpf_ringbuf_reserve(&ring, sizeof(*note), 0);
	if (!note)
		return;
	note->cookie = fate->cookie;
	note->state = 0;
	note->afterwards = count;
	bpf_ringbuf_submit(note, 0); /* unless it wakes the reader, the next one would not either */
}

enum kind { NO_MATTER, NO_SOCKET, UNROUTED, DISCARDED, BY_FIREWALL, BY_MD5 };

#define IS(name)                                                                                     \
	(bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_##name) &&                 \
	 reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_##name))

/* Whether it is a socket's, and was dropped before TCP had what came (TCP then takes its device away), or before a device
 * had what leaves: some drivers drop without a reason what they have sent.
 */
static __always_inline bool is_discarded(const struct dropped *packet, __u64 reason)
{
	if (!packet->sk)
		return false;
	return packet->skb->skb_iif ? packet->device && !IS(TCP_CSUM) : !packet->device || !IS(NOT_SPECIFIED);
}

/* A program that runs for any driver; what another one drops in the driver has never been a packet to the kernel. */
static __always_inline bool is_dropped_by_xdp(const struct dropped *packet)
{
	const struct net_device *device = packet->device;

	return device && packet->skb->skb_iif && !packet->sk && (device->xdp_state[0].link || device->xdp_state[0].prog);
}

static __always_inline enum kind kind_of(const struct dropped *packet, __u64 reason)
{
	if (IS(NO_SOCKET))
		return NO_SOCKET;
	if (IS(IP_OUTNOROUTES))
		return UNROUTED;
	if (IS(IP_RPFILTER)) /* anybody may send these, of connections that there are not */
		return packet->sk ? BY_FIREWALL : NO_MATTER;
	if (IS(XFRM_POLICY) || IS(NETFILTER_DROP) || IS(SOCKET_FILTER) || IS(BPF_CGROUP_EGRESS) || IS(TC_EGRESS) || IS(TC_INGRESS))
		return BY_FIREWALL;
	if (IS(TCP_MINTTL) || (IS(NOT_SPECIFIED) && is_dropped_by_xdp(packet)))
		return BY_FIREWALL;
	if (IS(TCP_MD5UNEXPECTED) || IS(TCP_MD5NOTFOUND) || IS(TCP_MD5FAILURE))
		return BY_MD5;
	return is_discarded(packet, reason) ? DISCARDED : NO_MATTER;
}

/* A packet that finds no route has no IP header yet, but its socket; over IPv6 that keeps the error itself. One that is
 * discarded may be within another one of a tunnel.
 */
static __always_inline void *flow_of_socket(const struct dropped *packet, struct flow *flow)
{
	const struct sock *sk = packet->sk;
	const struct sock_common *common = (const void *)sk;
	const struct net *net = packet->net;

	if (!sk || !ONE_OF(common->skc_state & 31, CONNECTED) || sk->sk_protocol != IPPROTO_TCP)
		return NULL;
	put_address(&flow->local, common, common->skc_rcv_saddr, &common->skc_v6_rcv_saddr);
	put_address(&flow->remote, common, common->skc_daddr, &common->skc_v6_daddr);
	flow->local_port = common->skc_num;
	flow->remote_port = bpf_ntohs(common->skc_dport);
	flow->netns = net->ns.inum;
	if (is_anybodys(net))
		return NULL;
	return is_ours(net, false) ? (void *)&flows : (void *)&flows_elsewhere;
}

static __always_inline void see_astray(struct fate *fate, const struct sock *sk, enum kind kind)
{
	__u16 *count = kind == UNROUTED ? &fate->unrouted : &fate->discarded;
	const struct tcp_sock *tp = (const void *)sk;
	__u32 heard = 0;

	if (!tp)
		return;
	bpf_probe_read_kernel(&heard, sizeof(heard), &tp->rcv_tstamp);
	if ((__s32)(fate->astray_at - heard) < 0)
		fate->unrouted = fate->discarded = 0;
	if (*count < 0xffff)
		++*count;
	fate->astray_at = now();
}

/* Not of those that would open a connection: anybody may send these, in any number. */
SEC("tp_btf/kfree_skb")
int see_drop(__u64 *ctx)
{
	const struct sk_buff *skb = (const void *)ctx[0];
	const struct sock *sk = skb->sk;
	const struct dropped packet = {
		.skb = skb,
		.device = skb->dev,
		.sk = sk,
		.net = sk ? sk->__sk_common.skc_net.net : NULL,
	};
	enum kind kind = kind_of(&packet, (__u32)ctx[2]);
	bool astray = kind == UNROUTED || kind == DISCARDED; /* of these the socket is known, if not the headers */
	struct flow flow = {};
	struct fate *fate;
	__u8 flags = 0;
	void *map;

	if (kind == NO_MATTER)
		return 0;
	map = astray ? flow_of_socket(&packet, &flow) : flow_of(&packet, &flow, &flags);
	if (!map || flags & SYN)
		return 0;
	fate = bpf_map_lookup_elem(map, &flow);
	if (kind == NO_SOCKET) {
		if (fate && fate->cookie && !(flags & RST)) /* which whoever has lost its state sends for each packet */
			tell_of_afterwards(fate);
		return 0;
	}
	if (!fate || fate->cookie) {
		struct fate first = {};

		bpf_map_update_elem(map, &flow, &first, BPF_ANY);
		fate = bpf_map_lookup_elem(map, &flow);
		if (!fate)
			return 0;
	}
	if (astray)
		see_astray(fate, packet.sk, kind);
	else
		fate->dropped_at = now();
	if (kind == BY_FIREWALL && fate->dropped_by_firewall < 0xffff)
		fate->dropped_by_firewall++;
	if (kind == BY_FIREWALL && !skb->skb_iif && fate->dropped_leaving < 0xffff)
		fate->dropped_leaving++;
	if (kind == BY_MD5 && fate->dropped_by_md5 < 0xffff)
		fate->dropped_by_md5++;
	return 0;
}

/* Ends */

struct closer {
	__u32 pid;
	__u8 signal;
	__u8 exiting;
	__u8 out_of_memory;
	__u8 by_kernel;
	char name[NAME];
};

static __always_inline void tell_closer(struct closer *closer)
{
	const struct task_struct *task = bpf_get_current_task_btf();

	closer->by_kernel = task->flags & PF_KTHREAD || is_worker(task);
	if (is_worker(task))
		return; /* what it is called and what becomes of it says nothing of the program */
	closer->pid = bpf_get_current_pid_tgid() >> 32;
	closer->exiting = !!(task->flags & PF_EXITING);
	closer->signal = closer->exiting ? task->exit_code & 127 : 0;
	closer->out_of_memory = BPF_CORE_READ(task, signal, oom_mm) != NULL;
	BPF_CORE_READ_STR_INTO(&closer->name, task, group_leader, comm);
}

/* At a program's close; the rest of it may come when nobody knows any more who it was. */
static __always_inline void see_close(const struct sock *sk, bool half_closed)
{
	const struct task_struct *task = bpf_get_current_task_btf();
	struct evidence *evidence;
	struct closer closer = {};

	if (!(task->flags & PF_EXITING) || !(task->exit_code & 127) || is_worker(task))
		return;
	evidence = keep(sk);
	if (!evidence)
		return;
	tell_closer(&closer);
	evidence->closer_pid = closer.pid;
	evidence->signal = closer.signal;
	evidence->out_of_memory = closer.out_of_memory;
	evidence->half_closed = half_closed;
	__builtin_memcpy(evidence->closer, closer.name, NAME);
}

static __always_inline void tell_socket(struct death *death, const struct tcp_sock *tp, int before)
{
	const struct inet_connection_sock *icsk = &tp->inet_conn;
	const struct sock *sk = (const struct sock *)tp;
	const struct sock_common *common = &sk->__sk_common;
	const struct netns_ipv4 *net = &common->skc_net.net->ipv4;
	__u32 then = now(), stamp;

	death->cookie = bpf_get_socket_cookie((void *)sk);
	death->cgroup = sk->sk_cgrp_data.cgroup->kn->id;
	put_address(&death->local, common, common->skc_rcv_saddr, &common->skc_v6_rcv_saddr);
	put_address(&death->remote, common, common->skc_daddr, &common->skc_v6_daddr);
	death->ended_at = bpf_ktime_get_boot_ns();
	death->bytes_received = tp->bytes_received;
	death->bytes_acked = tp->bytes_acked;
	death->netns = common->skc_net.net->ns.inum;
	death->inode = inode_of(sk);
	death->uid = sk->sk_uid.val;
	death->keepidle = tp->keepalive_time ?: net->sysctl_tcp_keepalive_time;
	death->keepintvl = tp->keepalive_intvl ?: net->sysctl_tcp_keepalive_intvl;
	death->keepcnt = tp->keepalive_probes ?: net->sysctl_tcp_keepalive_probes;
	death->keepalive = common->skc_flags & 1UL << SOCK_KEEPOPEN ? SWITCH_ON : SWITCH_OFF;
	death->user_timeout = icsk->icsk_user_timeout;
	death->unacked = tp->snd_nxt - tp->snd_una;
	death->first_unacked = tp->snd_una;
	death->unsent = tp->write_seq - tp->snd_nxt;
	death->unread = tp->rcv_nxt - tp->copied_seq;
	if (death->fin_first && death->unread)
		death->unread--; /* the FIN has a number, too */
	death->window = tp->snd_wnd;
	if (common->skc_family == AF_INET6 && bpf_core_field_exists(icsk->icsk_ack.lrcv_flowlabel))
		death->peer_label = BPF_CORE_READ_BITFIELD(icsk, icsk_ack.lrcv_flowlabel);
	death->since_sent = then - tp->lsndtime;
	death->since_received = then - icsk->icsk_ack.lrcvtime;
	death->since_acked = then - tp->rcv_tstamp;
	death->timeout = (tp->srtt_us >> 3) + tp->rttvar_us;
	death->error = sk->sk_err;
	death->soft_error = sk->sk_err_soft;
	death->local_port = bpf_ntohs(icsk->icsk_inet.inet_sport);
	death->remote_port = bpf_ntohs(common->skc_dport);
	death->state = before;
	death->shutdown = sk->sk_shutdown;
	death->retransmits = icsk->icsk_retransmits;
	death->probes = icsk->icsk_probes_out;
	death->timestamps = BPF_CORE_READ_BITFIELD(tp, rx_opt.tstamp_ok);
	death->since_lost = NEVER;
	stamp = tp->retrans_stamp;
	if (stamp && death->unacked) {
		const struct tcp_sock___v6_7 *newer = (const void *)tp;
		__u64 us = bpf_ktime_get_ns() / 1000;

		if (bpf_core_field_exists(newer->tcp_usec_ts) && BPF_CORE_READ_BITFIELD(newer, tcp_usec_ts))
			death->since_lost = ((__u32)us - stamp) / 1000;
		else
			death->since_lost = (__u32)(us / 1000) - stamp;
	}
}

static __always_inline void tell_evidence(struct death *death, const struct evidence *evidence)
{
	__u32 then = now();

	death->since_fin = since(evidence->fin_at, then);
	death->since_peer_probe = since(evidence->probe_at, then);
	death->peer_probe_gap = evidence->probe_gap ?: NEVER;
	death->since_syn = since(evidence->syn_at, then);
	death->fin_silence = evidence->fin_at ? evidence->fin_silence : NEVER;
	death->peer_probes = evidence->peer_probes;
	death->peer_ttl = evidence->peer_ttl;
	death->syn_ttl = evidence->syn_ttl;
	if (death->reset && evidence->reset_seen) {
		death->reset = RESET_RECEIVED;
		death->reset_flags = evidence->reset_flags;
		death->reset_ttl = evidence->reset_ttl;
		death->reset_id = evidence->reset_id;
		death->reset_window = evidence->reset_window;
		death->reset_label = evidence->reset_label;
		death->reset_timestamps = evidence->reset_timestamps;
		death->reset_local = evidence->reset_local;
	}
	if (evidence->signal) {
		death->closer_pid = evidence->closer_pid;
		death->signal = evidence->signal;
		death->exiting = 1;
		death->out_of_memory = evidence->out_of_memory;
		__builtin_memcpy(death->closer, evidence->closer, NAME);
	}
}

static __always_inline void tell_drops(struct death *death, const struct fate *before)
{
	__u32 heard = death->since_acked < death->since_received ? death->since_acked : death->since_received;

	if (!before || before->cookie)
		return;
	if (now() - before->dropped_at <= heard + 1) { /* or the peer was heard since: these ended nothing */
		death->dropped_by_firewall += before->dropped_by_firewall;
		death->dropped_leaving += before->dropped_leaving;
		death->dropped_by_md5 += before->dropped_by_md5;
	}
	if (now() - before->astray_at <= death->since_acked) {
		death->unrouted += before->unrouted;
		death->discarded += before->discarded;
	}
}

/* Where our own namespace forwards what a container sends and receives: of these packets it is not an end. */
static __always_inline void tell_drops_on_the_way(struct death *death, struct flow *flow)
{
	struct flow back = {
		.local = flow->remote,
		.remote = flow->local,
		.netns = wanted.netns,
		.local_port = flow->remote_port,
		.remote_port = flow->local_port,
	};

	tell_drops(death, bpf_map_lookup_elem(&flows, &back));
	back = *flow;
	back.netns = wanted.netns;
	tell_drops(death, bpf_map_lookup_elem(&flows, &back));
}

/* What of other connections and packets concerns this one. */
static __always_inline void tell_surroundings(struct death *death, const struct sock *sk)
{
	const struct net *net = sk->__sk_common.skc_net.net;

	struct host host = {
		.address = death->remote,
		.netns = death->netns,
		.service = service_of(death->local_port, death->remote_port),
	};
	struct flow flow = {
		.local = death->local,
		.remote = death->remote,
		.netns = death->netns,
		.local_port = death->local_port,
		.remote_port = death->remote_port,
	};
	const struct fate *before = bpf_map_lookup_elem(&flows, &flow) ?: bpf_map_lookup_elem(&flows_elsewhere, &flow);
	const struct habit *habit = bpf_map_lookup_elem(&hosts, &host) ?: bpf_map_lookup_elem(&hosts_elsewhere, &host);
	struct fate fate = { .cookie = death->cookie };

	if (habit && !death->peer_ttl && !varies(habit))
		death->peer_ttl = habit->ttl;
	tell_drops(death, before);
	if (death->netns != wanted.netns)
		tell_drops_on_the_way(death, &flow);
	death->no_carrier = has_no_carrier(sk);
	death->unkept = is_anybodys(net);
	if (!death->reset || death->unkept)
		return;
	if (is_ours(net, was_by_loopback(sk)))
		bpf_map_update_elem(&flows, &flow, &fate, BPF_ANY);
	else
		bpf_map_update_elem(&flows_elsewhere, &flow, &fate, BPF_ANY);
}

#define ABORTED (OPEN | 1 << TCP_FIN_WAIT1) /* these end without an error only if somebody here ends them at once */

/* Data for a socket that its program has closed ends it like a reset, though none came: tcp_rcv_state_process. */
static __always_inline bool is_data_after_close(const struct death *death)
{
	return wanted.packets && death->reset == RESET_UNSEEN && death->shutdown == WHOLE &&
	       ONE_OF(death->state, 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2);
}

/* Whoever closes shuts both directions first, and the state is left only then: an error may have come before. */
static __always_inline bool closes_at_once(const struct sock *sk, int before)
{
	return ONE_OF(before, OPEN) && (!sk->sk_err || sk->sk_shutdown == WHOLE);
}

/* After its own FIN a program may still end it at once: it closes with data that it has not read or with SO_LINGER 0, or
 * disconnects. Otherwise the peer's FIN came, or the program had closed it before.
 */
static __always_inline bool ends_half_closed(const struct sock *sk, int before)
{
	return ONE_OF(before, 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2) && !sk->sk_err && sk->sk_socket &&
	       !(sk->__sk_common.skc_flags & 1UL << SOCK_DONE);
}

static __always_inline void tell_death(struct death *death, const struct tcp_sock *tp, int before,
				       const struct evidence *evidence)
{
	__u16 error = ((const struct sock *)tp)->sk_err;
	bool closes = false;

	__builtin_memset(death, 0, sizeof(*death));
	death->fin_first = !!ONE_OF(before, 1 << TCP_CLOSE_WAIT | 1 << TCP_LAST_ACK);
	death->reset = error == ECONNRESET || error == EPIPE ? RESET_UNSEEN : NOT_RESET;
	death->since_fin = death->since_peer_probe = death->since_syn = death->fin_silence = NEVER;
	death->peer_probe_gap = NEVER;
	tell_socket(death, tp, before);
	if (evidence)
		tell_evidence(death, evidence);
	if (is_data_after_close(death)) {
		death->reset = NOT_RESET;
		death->error = 0; /* of which nobody is told */
		death->sent_reset = 1;
	}
	if (evidence && evidence->half_closed && !death->error)
		death->shutdown = SENDING; /* as it was at least: the close has set both */
	if (error == ECONNABORTED || (!error && ONE_OF(before, ABORTED)) ||
	    (error == ETIMEDOUT && death->probes && !death->unsent))
		death->sent_reset = 1;
	if (closes_at_once((const struct sock *)tp, before) || ends_half_closed((const struct sock *)tp, before))
		closes = death->sent_reset = 1;
	if (error == ECONNABORTED || closes) {
		struct closer closer = {};

		tell_closer(&closer);
		death->closer_pid = closer.pid;
		death->signal = closer.signal;
		death->exiting = closer.exiting;
		death->out_of_memory = closer.out_of_memory;
		death->by_kernel = closer.by_kernel;
		__builtin_memcpy(death->closer, closer.name, NAME);
	}
	tell_surroundings(death, (const struct sock *)tp);
}

static __always_inline __u32 user_of(const struct sock *sk)
{
	return is_anybodys(sk->__sk_common.skc_net.net) ? NOBODYS : sk->sk_uid.val;
}

static __always_inline void see_end(const struct sock *sk, int before)
{
	const struct evidence *evidence = NULL;
	const struct tcp_sock *tp;
	struct death *death;

	if (sk->sk_bpf_storage)
		evidence = bpf_sk_storage_get(&evidences, (void *)sk, NULL, 0);
	if (!sk->sk_err && !ONE_OF(before, ABORTED) && !ends_half_closed(sk, before) &&
	    !(evidence && (evidence->signal || evidence->fin_at))) {
		COUNT(ordinary);
		return;
	}
	tp = bpf_skc_to_tcp_sock((void *)sk);
	if (!tp || BPF_CORE_READ_BITFIELD(tp, repair)) {
		COUNT(ordinary); /* it goes on elsewhere, from a checkpoint */
		return;
	}
	if (is_nearly_full() && !has_place(user_of(sk))) {
		COUNT(lost);
		return;
	}
	death = bpf_ringbuf_reserve(&ring, sizeof(*death), 0);
	if (!death) {
		COUNT(lost);
		return;
	}
	tell_death(death, tp, before, evidence);
	bpf_ringbuf_submit(death, 0);
}

/* With Fast Open a program may have it before the handshake is over; of what ends so without an error and without a
 * program the handshake has failed.
 */
static __always_inline bool is_fast_open(const struct sock *sk)
{
	return sk->sk_err || sk->sk_socket;
}

/* A program that closes what has sent its FIN changes no state, but that is traced, too (tcp_close_state). Where the
 * peer has sent its own as well, nothing is left to be closed.
 */
SEC("tp_btf/inet_sock_set_state")
int see_state(__u64 *ctx)
{
	const struct sock *sk = (const void *)ctx[0];
	int before = ctx[1], after = ctx[2];
	bool again = before == after;

	if (after != TCP_CLOSE && after != TCP_FIN_WAIT1 && after != (again ? TCP_FIN_WAIT2 : TCP_LAST_ACK))
		return 0;
	if (sk->sk_protocol != IPPROTO_TCP || !ONE_OF(before & 31, CONNECTED | 1 << TCP_SYN_RECV))
		return 0;
	if (wanted.own && sk->__sk_common.skc_net.net->ns.inum != wanted.netns)
		return 0;
	if (before == TCP_SYN_RECV && !is_fast_open(sk))
		return 0;
	if (after != TCP_CLOSE) {
		see_close(sk, again);
		return 0;
	}
	if (ONE_OF(before & 31, OPEN) && sk->__sk_common.skc_net.net->ns.inum == wanted.netns)
		COUNT(open);
	see_end(sk, before == TCP_SYN_RECV ? TCP_ESTABLISHED : before);
	return 0;
}
