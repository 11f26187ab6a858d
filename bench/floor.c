/* The floor under every reader of sock_diag: ask for all IPv4 and IPv6 TCP sockets with
 * INET_DIAG_INFO, receive the dump, discard it.  Prints "SOCKETS-BYTES SECONDS" a round.
 * usage: floor ROUNDS
 */
#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { STATES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 }; /* as the watcher asks */

static char buffer[256 * 1024];

static long dump(int fd, int family)
{
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 body;
	} request = {
		.head = { .nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.body = { .sdiag_family = family, .sdiag_protocol = IPPROTO_TCP,
			  .idiag_ext = 1 << (INET_DIAG_INFO - 1), .idiag_states = STATES },
	};
	long bytes = 0;

	if (send(fd, &request, sizeof request, 0) < 0)
		exit(1);
	for (;;) {
		long got = recv(fd, buffer, sizeof buffer, 0);
		struct nlmsghdr *last;

		if (got <= 0)
			exit(1);
		bytes += got;
		last = (struct nlmsghdr *)buffer;
		if (last->nlmsg_type == NLMSG_DONE || last->nlmsg_type == NLMSG_ERROR)
			return bytes;
		for (; NLMSG_OK(last, got); last = NLMSG_NEXT(last, got))
			if (last->nlmsg_type == NLMSG_DONE)
				return bytes;
	}
}

int main(int argc, char **argv)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);

	for (int rounds = argc > 1 ? atoi(argv[1]) : 1; rounds > 0; rounds--) {
		struct timespec a, b;
		long bytes;

		clock_gettime(CLOCK_MONOTONIC, &a);
		bytes = dump(fd, AF_INET) + dump(fd, AF_INET6);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%ld %.6f\n", bytes, b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9);
	}
	return 0;
}
