/* Whole lives of connections, between a client and a server: opened, one byte there and one back,
 * closed by the server, then by the client.  Joins a cgroup first; for each line read, prints the
 * seconds of processor time that both took for so many.
 *
 * usage: lives CGROUP CONNECTIONS
 */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long must(long result, const char *what)
{
	if (result >= 0)
		return result;
	perror(what);
	exit(1);
}

static void serve(int listener)
{
	char byte;

	for (;;) {
		int fd = must(accept(listener, NULL, NULL), "accept");

		must(read(fd, &byte, 1), "read");
		must(write(fd, &byte, 1), "write");
		close(fd);
	}
}

static void live(const struct sockaddr_in *server)
{
	int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	char byte = 0;

	must(connect(fd, (const struct sockaddr *)server, sizeof *server), "connect");
	must(write(fd, &byte, 1), "write");
	while (must(read(fd, &byte, 1), "read"))
		;
	close(fd);
}

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;
	char path[4096], line[16];
	clockid_t clock;
	pid_t server;
	int listener;
	FILE *procs;

	if (argc != 3)
		return 64;
	snprintf(path, sizeof path, "%s/cgroup.procs", argv[1]);
	procs = fopen(path, "w");
	if (!procs || fprintf(procs, "%d", getpid()) < 0 || fclose(procs))
		must(-1, path);
	listener = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(bind(listener, (struct sockaddr *)&address, size), "bind");
	must(listen(listener, 1), "listen");
	must(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
	server = must(fork(), "fork");
	if (!server) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listener);
	}
	close(listener);
	clock_getcpuclockid(server, &clock);
	while (fgets(line, sizeof line, stdin)) {
		double start = seconds(CLOCK_PROCESS_CPUTIME_ID) + seconds(clock);

		for (int left = atoi(argv[2]); left; left--)
			live(&address);
		printf("%.9f\n", seconds(CLOCK_PROCESS_CPUTIME_ID) + seconds(clock) - start);
		fflush(stdout);
	}
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	return 0;
}
