/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Peers whose sockets are left out.
 */
#pragma once

#include "address.h"

#include <bpf/bpf_helpers.h>

struct prefix {
	__u32 length; /* in bits */
	__be32 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u8);
} ignored SEC(".maps");

const volatile bool ignoring = false; /* whether there is anything in `ignored` */

static __always_inline bool is_ignored(struct address remote)
{
	struct prefix whole = { 128, { bpf_htonl(remote.high >> 32), bpf_htonl(remote.high),
				       bpf_htonl(remote.low >> 32), bpf_htonl(remote.low) } };

	return bpf_map_lookup_elem(&ignored, &whole) != 0;
}
