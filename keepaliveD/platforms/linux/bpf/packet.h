/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Headers as they are on the wire: RFC 791, 8200, 9293.
 */
#pragma once

#include "address.h"

enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd, FIN = 1, SYN = 2, RST = 4, ACK = 16 };
enum { TIMESTAMPS = 0x0101080a }; /* how all common systems write their only option */

struct ipv4 {
	__u8 version_length;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 target;
};

struct ipv6 {
	__be32 version_label;
	__be16 length;
	__u8 protocol;
	__u8 ttl;
	__be32 source[4];
	__be32 target[4];
};

struct tcp {
	__be16 source;
	__be16 target;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

static __always_inline struct address from_v4(__be32 address)
{
	return (struct address){ 0, V4_MAPPED | bpf_ntohl(address) };
}

static __always_inline struct address from_v6(const __be32 *address)
{
	return (struct address){
		(__u64)bpf_ntohl(address[0]) << 32 | bpf_ntohl(address[1]),
		(__u64)bpf_ntohl(address[2]) << 32 | bpf_ntohl(address[3]),
	};
}
