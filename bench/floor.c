/* The floor under every reader of sock_diag: ask for all IPv4 and IPv6 TCP sockets with
 * INET_DIAG_INFO, receive the dump, discard it.  For each line read, prints the seconds it took.
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

static void dump(int fd, int family)
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

	if (send(fd, &request, sizeof request, 0) < 0)
		exit(1);
	for (;;) {
		long got = recv(fd, buffer, sizeof buffer, 0);
		struct nlmsghdr *last;

		if (got <= 0)
			exit(1);
		last = (struct nlmsghdr *)buffer;
		if (last->nlmsg_type == NLMSG_DONE || last->nlmsg_type == NLMSG_ERROR)
			return;
		for (; NLMSG_OK(last, got); last = NLMSG_NEXT(last, got))
			if (last->nlmsg_type == NLMSG_DONE)
				return;
	}
}

int main(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);

	while (getchar() != EOF) {
		struct timespec a, b;

		clock_gettime(CLOCK_MONOTONIC, &a);
		dump(fd, AF_INET);
		dump(fd, AF_INET6);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.6f\n", b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9);
		fflush(stdout);
	}
	return 0;
}
