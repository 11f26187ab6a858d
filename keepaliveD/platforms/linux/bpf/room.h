/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * The room for records that nobody has read yet. Any user can end thousands of connections at once: what is left of a
 * room that is nearly full has a few places for each user, so that the ends of others are recorded, too.
 */
#pragma once

#include "record.h"

enum { ROOM = 4 << 20, NEARLY = ROOM - ROOM / 32 }; /* bytes; deaths.ROOM is the twin */
enum { PLACES = 16, USERS = 1024, NOBODYS = ~0 };

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ROOM);
} ring SEC(".maps");

struct share {
	__u64 read; /* how far the reader was */
	__u64 taken; /* places since */
};

/* By user; all that have made their own network namespaces are one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, USERS);
	__type(key, __u32);
	__type(value, struct share);
} shares SEC(".maps");

static __always_inline bool is_nearly_full(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= NEARLY;
}

static __always_inline bool has_place(__u32 user)
{
	struct share first = { .read = bpf_ringbuf_query(&ring, BPF_RB_CONS_POS), .taken = 1 };
	struct share *share = bpf_map_lookup_elem(&shares, &user);

	if (share && share->read == first.read)
		return __sync_fetch_and_add(&share->taken, 1) < PLACES;
	bpf_map_update_elem(&shares, &user, &first, BPF_ANY);
	return true;
}
