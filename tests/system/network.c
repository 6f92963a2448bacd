/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The network around a row: one of its own that has nothing to do with this
 * machine's, servers in it for a guest to talk to, and a profile like that of a
 * container, which forbids to make namespaces. runner.c and steps.c call it.
 */
#include "runner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* RFC 5737: nobody's, so no test can be answered by mistake. Nothing is behind the gateway. */
#define MAKE_NETWORK                                                                               \
	"{ PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && ip link add world type veth peer "     \
	"name beyond && ip link set "                                                              \
	"beyond up && "                                                                            \
	"ip address add 192.0.2.2/24 dev world && ip link set world up && "                        \
	"ip route add default via 192.0.2.1; } >&2"

bool network_make(void)
{
	return system(MAKE_NETWORK) == 0;
}

bool network_has_user_namespaces(void)
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0)
		_exit((getuid() == 0 && setuid(NOBODY) < 0) || unshare(CLONE_NEWUSER) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

#define ARGUMENT(n) offsetof(struct seccomp_data, args[n])
#define LOAD(at)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define DENY(err)   BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (err))

/* What Docker's default profile does about them. */
bool network_deny_namespaces(void)
{
	struct sock_filter code[] = {
		LOAD(offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		LOAD(offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_unshare, 0, 1),
		DENY(EPERM),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1),
		DENY(ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 0, 3),
		LOAD(ARGUMENT(0)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 0, 1),
		DENY(EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = COUNT(code), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(port),
	};
}

struct server {
	int listening;
	const char *text;
};

/* To everybody the same. Allocates nothing: other guests are forked off beside it. */
static void *serve(void *opaque)
{
	const struct server *server = opaque;
	char request[1024];
	int fd;

	while ((fd = accept4(server->listening, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (read(fd, request, sizeof(request)) > 0 &&
		    write(fd, server->text, strlen(server->text)) > 0)
			shutdown(fd, SHUT_WR);
		/* Until the other end has got it all. */
		while (read(fd, request, sizeof(request)) > 0)
			;
		close(fd);
	}
	return NULL;
}

bool network_serve(int port, const char *text)
{
	const struct sockaddr_in address = loopback(port);
	struct server *server = malloc(sizeof(*server));
	pthread_t thread;

	if (!server)
		return false;
	*server = (struct server){socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), text};
	if (server->listening >= 0 &&
	    bind(server->listening, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	    listen(server->listening, 8) == 0) {
		errno = pthread_create(&thread, NULL, serve, server);
		if (!errno)
			return pthread_detach(thread) == 0;
	}
	free(server);
	return false;
}

bool network_fetch(int port, const char *wanted)
{
	const struct sockaddr_in address = loopback(port);
	/* For a guest that has just begun to listen, or is about to. */
	const struct timeval patience = {.tv_sec = 5};
	char text[1024];
	ssize_t got = 0, length = 0;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	/* We speak first, as passt of Debian 12 wants it: else it leaves the guest to wait. */
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	    write(fd, "\n", 1) == 1)
		while (length < (ssize_t)sizeof(text) - 1 &&
		       (got = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
			length += got;
	close(fd);
	text[length] = '\0';
	return strstr(text, wanted);
}
