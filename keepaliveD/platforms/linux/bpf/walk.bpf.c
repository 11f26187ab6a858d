// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* The TCP sockets of all network namespaces, as the kernel's hash table has them.
 *
 * An iterator holds, locks and lets go of each socket, and walks the table once for each namespace.
 * This only reads, under RCU, like the kernel's own lookup (__inet_lookup_established): a socket may be
 * freed and used anew meanwhile, but its memory stays one of a socket. So a socket is
 * recorded only if it is the same before and after; a chain that ends in the end of another one is walked again.
 */
#include "ignored.h"
#include "record.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define IS_NULLS 1UL /* include/linux/list_nulls.h: not a node, but the end of a chain, and above this bit whose */

enum {
	RECORDS = 8192,
	STEPS = 2048, /* at a time: a fraction of a millisecond, in which this processor does nothing else */
};

/* walk.PLACE is its twin; what is kept here comes back as a number, which may be calculated with */
struct {
	__u64 table; /* address of the first bucket */
	__u64 last; /* number of the last one to walk over */
	__u64 only; /* a network namespace, or 0 for all */
	__u64 bucket; /* where to go on */
	__u64 whole; /* records so far, of whole buckets */
	__u64 node; /* where in the chain, and ... */
	__u64 met; /* ... how many records with it */
	__u64 passed; /* how many nodes of it, recorded or not */
	__u64 next; /* the node after it */
	__u64 steps; /* how many sift() may take */
	__u64 others; /* how many parts there are beside ... */
	__u64 part; /* ... the one that it records */
	struct now now; /* when it last went on */
} place;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RECORDS);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym; /* Linux 6.2 */

#define AT(address, type) ((const type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))

enum { ON, STOP, AGAIN }; /* the first two are what bpf_loop takes */

static __always_inline __u64 first_of(__u64 number)
{
	__u64 bucket = place.table + number * bpf_core_type_size(struct inet_ehash_bucket);

	return (__u64)AT(bucket, struct inet_ehash_bucket)->chain.first;
}

static __always_inline void enter_bucket(void)
{
	place.node = first_of(place.bucket);
	place.met = place.whole;
	place.passed = 0;
}

static __always_inline bool is_wanted(const struct sock_common *common)
{
	unsigned char state = common->skc_state; /* of requests and of those in TIME_WAIT it is at the same place */

	return state < 32 && 1U << state & STATES && (!place.only || place.only == common->skc_net.net->ns.inum);
}

static __always_inline int record_socket(const struct tcp_sock *tp)
{
	const struct sock *sk = (const struct sock *)tp;
	const struct sock_common *common = &sk->__sk_common;
	__u32 number = place.met;
	struct record *record;

	record = bpf_map_lookup_elem(&records, &number);
	if (!record)
		return STOP;
	record->cookie = common->skc_cookie.counter; /* 0 where nobody has asked for it yet */
	record->state = common->skc_state;
	record->uid = sk->sk_uid.val;
	record->timer = TIMER_OFF;
	record->expires = record->slack = 0;
	put_address(&record->remote, common, common->skc_daddr, &common->skc_v6_daddr);
	if (ignoring && is_ignored(record->remote))
		return ON;
	fill(record, tp, place.now);
	barrier(); /* or the compiler might not look again */
	if (!is_wanted(common))
		return ON;
	if (record->cookie != (__u64)common->skc_cookie.counter)
		return AGAIN; /* it is used anew, or somebody has just asked for its cookie */
	place.met++;
	return ON;
}

#define FETCH(member) asm volatile("" : : "r"((__u64)(member)))

/* Have the processor fetch what fill() reads of the next socket, all at once, while it records this one. */
static __always_inline void fetch_next(void)
{
	const struct tcp_sock *tp;
	const struct sock *sk;

	barrier(); /* a number again */
	if (place.next & IS_NULLS) {
		if (place.bucket >= place.last)
			return;
		place.next = first_of(place.bucket + 1);
		barrier();
		if (place.next & IS_NULLS)
			return;
	}
	tp = AT(place.next - bpf_core_field_offset(struct sock_common, skc_nulls_node), struct tcp_sock);
	sk = (const struct sock *)tp;
	FETCH(sk->__sk_common.skc_cookie.counter);
	FETCH(sk->sk_uid.val);
	FETCH(sk->sk_cgrp_data.cgroup);
	FETCH(sk->sk_timer.expires);
	if (bpf_core_field_exists(((struct sock___v6_18 *)0)->sk_ino))
		FETCH(((const struct sock___v6_18 *)sk)->sk_ino);
	FETCH(tp->inet_conn.icsk_pending);
	FETCH(tp->inet_conn.icsk_user_timeout);
	FETCH(tp->lsndtime);
	FETCH(tp->tcp_mstamp);
	FETCH(tp->rcv_tstamp);
	FETCH(tp->segs_in);
	FETCH(tp->segs_out);
	FETCH(tp->keepalive_time);
	FETCH(tp->keepalive_probes);
}

/* A socket keeps its address as long as it lives, and so its part. */
static __always_inline bool is_in_part(void)
{
	return (place.node / 64 * 2654435761 >> 16 & place.others) == place.part;
}

static __always_inline int go_on(bool sifts)
{
	const struct sock_common *common;
	int next = ON;

	if (place.node & IS_NULLS) {
		if (place.node >> 1 == place.bucket) {
			place.whole = place.met;
			if (place.bucket++ == place.last)
				return STOP;
		}
		enter_bucket();
		return ON;
	}
	common = AT(place.node - bpf_core_field_offset(struct sock_common, skc_nulls_node), struct sock_common);
	place.next = (__u64)common->skc_nulls_node.next;
	if (!sifts && !ignoring) /* else it may not be recorded, and would be fetched for nothing */
		fetch_next();
	if ((!sifts || is_in_part()) && is_wanted(common))
		next = record_socket(AT(common, struct tcp_sock));
	if (next == ON) {
		place.node = (__u64)common->skc_nulls_node.next;
		place.passed++;
	}
	return next == STOP ? STOP : ON;
}

static int step(__u32 number, void *unused)
{
	(void)number, (void)unused;
	return go_on(false);
}

static int sift_step(__u32 number, void *unused)
{
	(void)number, (void)unused;
	return go_on(true);
}

/* Where the table is that the caller's network namespace uses: the host's, if it has none of its own. */
SEC("raw_tp")
int find_table(void *ctx)
{
	const struct inet_hashinfo *info = bpf_get_current_task_btf()->nsproxy->net_ns->ipv4.tcp_death_row.hashinfo;

	(void)ctx;
	place.table = (__u64)info->ehash;
	place.last = info->ehash_mask;
	return 0;
}

/* Goes on from place.bucket, until the records are full, the table ends, or it has taken long enough. */
SEC("raw_tp")
int walk(void *ctx)
{
	(void)ctx;
	place.now = read_clocks();
	enter_bucket();
	bpf_loop(STEPS, step, 0, 0);
	return 0;
}

/* Walks over place.bucket, which is the last one, and records a part of it: of a crowded one, all are too many at once. */
SEC("raw_tp")
int sift(void *ctx)
{
	(void)ctx;
	place.now = read_clocks();
	enter_bucket();
	bpf_loop(place.steps, sift_step, 0, 0);
	return 0;
}
