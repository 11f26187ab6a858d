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

static __always_inline struct address address_of(const struct sock_common *sk, __be32 v4, const struct in6_addr *v6)
{
	if (sk->skc_family == AF_INET)
		return (struct address){ 0, V4_MAPPED | bpf_ntohl(v4) };
	return (struct address){
		(__u64)bpf_ntohl(v6->in6_u.u6_addr32[0]) << 32 | bpf_ntohl(v6->in6_u.u6_addr32[1]),
		(__u64)bpf_ntohl(v6->in6_u.u6_addr32[2]) << 32 | bpf_ntohl(v6->in6_u.u6_addr32[3]),
	};
}
