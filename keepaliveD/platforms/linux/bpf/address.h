/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Addresses as sockets.SOCKET has them.
 */
#pragma once

#include "kernel.h"

#include <bpf/bpf_endian.h>

#define V4_MAPPED 0xffff00000000ULL /* RFC 4291, 2.5.5.2 */

struct address {
	__u64 high, low;
};

/* Into the place of the result: newer clangs refuse a function that returns a structure, unless it is inlined early. */
static __always_inline void put_address(struct address *address, const struct sock_common *sk, __be32 v4,
					const struct in6_addr *v6)
{
	if (sk->skc_family == AF_INET) {
		address->high = 0;
		address->low = V4_MAPPED | bpf_ntohl(v4);
		return;
	}
	address->high = (__u64)bpf_ntohl(v6->in6_u.u6_addr32[0]) << 32 | bpf_ntohl(v6->in6_u.u6_addr32[1]);
	address->low = (__u64)bpf_ntohl(v6->in6_u.u6_addr32[2]) << 32 | bpf_ntohl(v6->in6_u.u6_addr32[3]);
}
