/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sandbox, from inside. There is no way out again, so each test locks in a
 * child of its own, and looks at what became of it: 0, all went well there; 2, it was
 * stopped, and what it had to say is in `said`. Whole guests in it are the system
 * tests' matter.
 */
#include "host/filter.h"
#include "host/landlock.h"
#include "host/log.h"
#include "host/machine.h"
#include "host/privileges.h"
#include "host/sandbox.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <liburing.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WRONG 99 /* a child that found something it did not like */

static char said[4096];

/* For children, whose word is their status. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			dprintf(STDERR_FILENO, "line %d: %s: %s\n", __LINE__, #condition,          \
				strerror(errno));                                                  \
			_exit(WRONG);                                                              \
		}                                                                                  \
	} while (0)

static void listen_to(int fd)
{
	size_t length = 0;
	ssize_t got;

	while ((got = read(fd, said + length, sizeof(said) - 1 - length)) > 0)
		length += got;
	said[length] = '\0';
}

/* What the child left with, or minus the signal that ended it. */
static int child(void (*body)(void *), void *argument)
{
	int words[2], status;
	pid_t pid;

	assert_int_equal(pipe2(words, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(words[1], STDERR_FILENO);
		body(argument);
		_exit(0);
	}
	close(words[1]);
	listen_to(words[0]);
	close(words[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == WRONG)
		print_message("%s", said);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* As the launcher's. */
static void on_denied(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	_exit(sandbox_denied(info, context) ? EXIT_CRASHED : WRONG);
}

static struct sandbox *prepare(const struct sandbox_options *options)
{
	const struct sigaction action = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO};
	struct problem why;
	struct sandbox *sandbox = sandbox_new(options, &why);

	MUST(sandbox);
	sigaction(SIGSYS, &action, NULL);
	return sandbox;
}

static void enter(struct sandbox *sandbox)
{
	struct problem why;

	if (sandbox_enter(sandbox, &why)) {
		dprintf(STDERR_FILENO, "%s\n", why.text);
		_exit(WRONG);
	}
}

static void lock_in(void)
{
	static const struct sandbox_options options;

	enter(prepare(&options));
}

/* Each kind of thread, and what it may do */

static int file_fd; /* a few bytes, opened before the door shuts */
static int pair[2]; /* of sockets */
static pid_t parent;
static char byte;
static struct iovec one_byte = {&byte, 1};

static void *nothing(void *opaque)
{
	return opaque;
}

static void do_socket(void)
{
	MUST(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static void do_execve(void)
{
	char *const none[] = {NULL};

	execve("/bin/true", none, none);
}

static void do_memfd(void)
{
	MUST(memfd_create("test", 0) >= 0);
}

#if !FILTER_SANITIZED
static void do_clone(void)
{
	MUST(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0);
}
#endif

static void do_thread(void)
{
	pthread_t thread;

	MUST(!pthread_create(&thread, NULL, nothing, NULL));
	MUST(!pthread_join(thread, NULL));
}

static void do_map_file(void)
{
	MUST(mmap(NULL, 1, PROT_READ, MAP_PRIVATE, file_fd, 0) != MAP_FAILED);
}

static void do_map_code(void)
{
	MUST(mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, file_fd, 0) != MAP_FAILED);
}

static void do_make_code(void)
{
	void *page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(page != MAP_FAILED);
	MUST(!mprotect(page, 1, PROT_READ));
	MUST(!mprotect(page, 1, PROT_READ | PROT_EXEC));
}

/* More than a heap keeps, so that it has to ask for it, and gives it back; and mappings that grow.
 */
static void do_malloc(void)
{
	enum { PIECES = 100, PIECE = 10000, LARGE = 1000000 };
	static char *pieces[PIECES];

	for (unsigned i = 0; i < PIECES; i++) {
		pieces[i] = malloc(PIECE);
		MUST(pieces[i]);
		memset(pieces[i], 1, PIECE);
	}
	for (unsigned i = PIECES; i-- > 1;)
		free(pieces[i]);
	pieces[0] = realloc(pieces[0], LARGE);
	pieces[0] = realloc(pieces[0], LARGE * 10);
	MUST(pieces[0]);
	free(pieces[0]);
}

static void do_clock(void)
{
	const time_t now = time(NULL);
	struct tm tm;

	MUST(gmtime_r(&now, &tm));
}

static void do_disk(void)
{
	MUST(preadv(file_fd, &one_byte, 1, 0) == 1);
	MUST(pwritev(file_fd, &one_byte, 1, 0) == 1);
	MUST(!fdatasync(file_fd));
	MUST(!fallocate(file_fd, 0, 0, 1));
}

static void do_network(void)
{
	struct msghdr message = {.msg_iov = &one_byte, .msg_iovlen = 1};

	MUST(sendmsg(pair[0], &message, 0) == 1);
	MUST(recvmsg(pair[1], &message, 0) == 1);
}

static void do_random(void)
{
	MUST(getrandom(&byte, 1, 0) == 1);
}

static void do_timer(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_NONE};
	struct itimerspec spec = {.it_value.tv_sec = 1000};
	timer_t timer;

	MUST(!timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(!timer_settime(timer, 0, &spec, NULL));
	MUST(!timer_delete(timer));
}

static void do_read_ahead(void)
{
	MUST(pread(file_fd, &byte, 1, 0) == 1);
}

static void do_stat(void)
{
	struct stat status;

	MUST(!fstat(file_fd, &status));
}

static void do_kill_self(void)
{
	MUST(!kill(getpid(), 0));
}

static void do_kill_parent(void)
{
	kill(parent, 0);
}

static void do_raise(void)
{
	signal(SIGUSR1, SIG_IGN);
	MUST(!raise(SIGUSR1));
}

/* As one would who wants to be denied something and live. */
static void do_live_on(void)
{
	MUST(signal(SIGSYS, SIG_IGN) != SIG_ERR);
}

/* The last words of the C library: stack smashing detected. */
static void do_last_words(void)
{
	struct iovec nothing_to_say = {&byte, 0};

	MUST(writev(STDERR_FILENO, &nothing_to_say, 1) == 0);
}

/* As either of the C library's ways of asking for a terminal's state. */
static void do_terminal(void)
{
	struct termios2 state;

	MUST(ioctl(file_fd, TCGETS, &state) < 0 && errno == ENOTTY);
	MUST(ioctl(file_fd, TCGETS2, &state) < 0 && errno == ENOTTY);
	MUST(ioctl(file_fd, TCSETS2, &state) < 0 && errno == ENOTTY);
}

static void do_another_filter(void)
{
	sandbox_thread(SANDBOX_QUEUE);
}

#define M (1 << SANDBOX_MAIN)
#define V (1 << SANDBOX_VCPU)
#define Q (1 << SANDBOX_QUEUE)

/*
 * Who gets through with it; the others are stopped at a call whose name begins like this. The C
 * library blocks all signals while it makes a thread, so that nobody is told of that: NULL.
 */
static const struct {
	void (*action)(void);
	unsigned may;
	const char *call;
} actions[] = {
	{do_socket, 0, "socket("},
	{do_execve, 0, "execve("},
	{do_memfd, 0, "memfd_create("},
	{do_map_code, 0, "mmap("},
	{do_make_code, 0, "mprotect("},
	{do_map_file, FILTER_SANITIZED ? M | V | Q : M, "mmap("},
	{do_thread, M, NULL},
	{do_another_filter, M, "capset("},
	{do_stat, FILTER_SANITIZED ? M | V | Q : M, ""},
	{do_kill_self, M, "kill("},
	{do_kill_parent, 0, "kill("},
	{do_read_ahead, M | Q, "pread64("},
	{do_disk, M | Q, "preadv("},
	{do_network, M | Q, "sendmsg("},
	{do_random, M | Q, "getrandom("},
	{do_timer, M | V, "timer_create("},
	{do_malloc, M | V | Q, ""},
	{do_clock, M | V | Q, ""},
	{do_raise, M | V | Q, ""},
	{do_live_on, M, "rt_sigaction("},
	{do_last_words, M | V | Q, ""},
	{do_terminal, M | V | Q, ""},
#if !FILTER_SANITIZED
	{do_clone, 0, "clone("},
#endif
};

struct attempt {
	void (*action)(void);
	enum sandbox_thread kind;
	eventfd_t start;
};

static void *thread(void *opaque)
{
	const struct attempt *attempt = opaque;
	eventfd_t count;

	pthread_setname_np(pthread_self(), "tester");
	MUST(!eventfd_read(attempt->start, &count));
	sandbox_thread(attempt->kind);
	attempt->action();
	return NULL;
}

/* The thread is there before the door shuts, as queues' are; a vCPU's is made afterwards. */
static void attempt_in_thread(void *opaque)
{
	static const struct sandbox_options options;
	struct attempt *attempt = opaque;
	struct sandbox *sandbox = prepare(&options);
	pthread_t tester;

	attempt->start = eventfd(0, 0);
	if (attempt->kind == SANDBOX_QUEUE)
		MUST(!pthread_create(&tester, NULL, thread, attempt));
	enter(sandbox);
	if (attempt->kind == SANDBOX_VCPU)
		MUST(!pthread_create(&tester, NULL, thread, attempt));
	MUST(!eventfd_write(attempt->start, 1));
	MUST(!pthread_join(tester, NULL));
}

static void attempt_in_main(void *opaque)
{
	const struct attempt *attempt = opaque;

	lock_in();
	pthread_setname_np(pthread_self(), "tester");
	attempt->action();
}

static void expect_denied(int status, const char *call)
{
	char words[64];

	snprintf(words, sizeof(words), "lguest: tester: the sandbox denied %s", call ? call : "");
	if (call && strncmp(said, words, strlen(words)))
		fail_msg("expected \"%s\", got \"%s\"", words, said);
	assert_int_equal(status, call ? EXIT_CRASHED : -SIGSYS);
}

static void test_actions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		for (unsigned kind = 0; kind < SANDBOX_THREADS; kind++) {
			struct attempt attempt = {actions[i].action, kind, 0};
			int status =
				child(kind == SANDBOX_MAIN ? attempt_in_main : attempt_in_thread,
				      &attempt);

			if (actions[i].may & 1 << kind) {
				assert_string_equal(said, "");
				assert_int_equal(status, 0);
			} else {
				expect_denied(status, actions[i].call);
			}
		}
}

/* Threads that have not heard of it are locked in as well. */
static void *open_a_socket(void *opaque)
{
	eventfd_t count;

	MUST(!eventfd_read(*(int *)opaque, &count));
	do_socket();
	return NULL;
}

static void bystander(void *opaque)
{
	static const struct sandbox_options options;
	struct sandbox *sandbox = prepare(&options);
	int start = eventfd(0, 0);
	pthread_t tester;

	(void)opaque;
	MUST(!pthread_create(&tester, NULL, open_a_socket, &start));
	enter(sandbox);
	MUST(!eventfd_write(start, 1));
	pthread_join(tester, NULL);
}

static void test_every_thread(void **state)
{
	(void)state;
	assert_int_equal(child(bystander, NULL), EXIT_CRASHED);
	assert_non_null(strstr(said, "the sandbox denied socket(0x2, 0x1, 0x0, ...)\n"));
}

/* Calls by the numbers of other programs */

static void call_as_32_bit(void *opaque)
{
	long number = 20; /* getpid() there */

	(void)opaque;
	lock_in();
	__asm__ volatile("int $0x80" : "+a"(number) : : "memory");
}

static void call_as_x32(void *opaque)
{
	(void)opaque;
	lock_in();
	syscall(1 << 30 | SYS_getpid);
}

static void call_nothing(void *opaque)
{
	(void)opaque;
	lock_in();
	syscall(FILTER_NAMES + 1);
}

static void test_numbers(void **state)
{
	(void)state;
	assert_int_equal(child(call_as_32_bit, NULL), -SIGSYS);
	assert_int_equal(child(call_as_x32, NULL), -SIGSYS);
	assert_int_equal(child(call_nothing, NULL), EXIT_CRASHED);
	assert_non_null(strstr(said, "denied system call 513("));
}

static void test_names(void **state)
{
	static char names[FILTER_NAMES][FILTER_NAME_MAX];

	(void)state;
	filter_names(names);
	assert_string_equal(names[SYS_read], "read");
	assert_string_equal(names[SYS_openat2], "openat2");
	assert_string_equal(names[FILTER_NAMES - 1], "");
}

static void use_everything(void *opaque)
{
	static const struct sandbox_options options = {.off = true};

	(void)opaque;
	enter(prepare(&options));
	sandbox_thread(SANDBOX_VCPU);
	do_socket();
	do_memfd();
	do_make_code();
}

/* A helper is what its launcher is. */
static void help_openly(void *opaque)
{
	static const struct sandbox_options options = {.off = true};
	struct problem why;

	(void)opaque;
	prepare(&options);
	MUST(!sandbox_helper(SANDBOX_SWITCH, -1, &why));
	do_socket();
}

static void test_off(void **state)
{
	(void)state;
	assert_int_equal(child(help_openly, NULL), 0);
	assert_int_equal(child(use_everything, NULL), 0);
	assert_memory_equal(said, "lguest: --no-sandbox: ", 22);
}

/* Another user, another root */

static void test_not_found(void **state)
{
	static const struct sandbox_options nobody = {.username = "lguest-has-no-such-user"};
	static const struct sandbox_options nowhere = {.chroot = "/lguest/has/no/such/folder"};
	static const struct sandbox_options no_folder = {.chroot = "/dev/null"};
	struct problem why;

	(void)state;
	assert_null(sandbox_new(&nobody, &why));
	assert_string_equal(why.text, "--username=lguest-has-no-such-user: there is no such user");
	assert_null(sandbox_new(&nowhere, &why));
	assert_non_null(strstr(why.text, nowhere.chroot));
	assert_null(sandbox_new(&no_folder, &why));
	assert_non_null(strstr(why.text, "Not a directory"));
}

static void ask_as_user(void *opaque)
{
	const struct sandbox_options options = {.username = "nobody", .chroot = opaque};
	struct problem why;

	MUST(!setresuid(1, 1, 1));
	MUST(!sandbox_new(&options, &why));
	dprintf(STDERR_FILENO, "%s\n", why.text);
}

static void test_not_root(void **state)
{
	(void)state;
	if (getuid())
		skip();
	assert_int_equal(child(ask_as_user, NULL), 0);
	assert_non_null(strstr(said, "--username=nobody: only root can"));
}

/* Every thread, not only the one that says so. */
static void *look_at_ids(void *opaque)
{
	const struct passwd *user = opaque;
	uid_t uids[3];
	gid_t gids[3];

	MUST(!getresuid(&uids[0], &uids[1], &uids[2]));
	MUST(!getresgid(&gids[0], &gids[1], &gids[2]));
	for (unsigned i = 0; i < 3; i++)
		MUST(uids[i] == user->pw_uid && gids[i] == user->pw_gid);
	MUST(getgroups(0, NULL) == 0);
	return NULL;
}

struct other_thread {
	int start;
	const struct passwd *user;
};

static void *wait_and_look(void *opaque)
{
	const struct other_thread *other = opaque;
	eventfd_t count;

	MUST(!eventfd_read(other->start, &count));
	return look_at_ids((void *)other->user);
}

static void become_nobody(void *opaque)
{
	const struct sandbox_options options = {
		.off = true, .username = "nobody", .chroot = opaque};
	const gid_t groups[] = {0, 1, 2};
	struct other_thread other = {eventfd(0, 0), getpwnam("nobody")};
	struct sandbox *sandbox;
	char where[64];
	pthread_t tester;

	MUST(!setgroups(ARRAY_SIZE(groups), groups));
	sandbox = prepare(&options);
	MUST(!pthread_create(&tester, NULL, wait_and_look, &other));
	enter(sandbox);
	MUST(!eventfd_write(other.start, 1));
	MUST(!pthread_join(tester, NULL));
	look_at_ids((void *)other.user);
	MUST(getcwd(where, sizeof(where)) && !strcmp(where, "/"));
	MUST(!access("/inside", F_OK));
	MUST(access("/etc", F_OK) && errno == ENOENT);
	MUST(setresuid(0, 0, 0) && errno == EPERM);
}

static void test_nobody(void **state)
{
	char root[] = "/tmp/test_sandbox.XXXXXX", inside[64];
	int status;

	(void)state;
	if (getuid())
		skip();
	assert_non_null(mkdtemp(root));
	assert_int_equal(chmod(root, 0755), 0);
	snprintf(inside, sizeof(inside), "%s/inside", root);
	assert_int_equal(mkdir(inside, 0755), 0);
	status = child(become_nobody, root);
	rmdir(inside);
	rmdir(root);
	assert_int_equal(status, 0);
}

static void lose_capabilities(void *opaque)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	(void)opaque;
	MUST(!privileges_drop_capabilities());
	MUST(!syscall(SYS_capget, &header, sets));
	for (unsigned i = 0; i < ARRAY_SIZE(sets); i++)
		MUST(!sets[i].effective && !sets[i].permitted && !sets[i].inheritable);
}

static void test_capabilities(void **state)
{
	(void)state;
	assert_int_equal(child(lose_capabilities, NULL), 0);
}

/* Landlock, where no filter helps it */

static char readable[] = "/tmp/test_sandbox.XXXXXX";

static int open_by_ring(const char *path)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;

	if (io_uring_queue_init(1, &ring, 0))
		return -EACCES; /* no ring, no way */
	io_uring_prep_openat(io_uring_get_sqe(&ring), AT_FDCWD, path, O_RDONLY, 0);
	MUST(io_uring_submit_and_wait(&ring, 1) == 1);
	MUST(!io_uring_peek_cqe(&ring, &cqe));
	return cqe->res;
}

static void live_without_files(void *opaque)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int rules = landlock_rules(LANDLOCK_NO_NETWORK, opaque, -1);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	MUST(rules >= 0);
	MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(open_by_ring("/dev/null") >= 0 || open_by_ring("/dev/null") == -EACCES);
	MUST(!landlock_enter(rules));
	MUST(open("/dev/null", O_RDONLY) < 0 && errno == EACCES);
	MUST(open("/tmp/test_sandbox", O_RDWR | O_CREAT, 0600) < 0 && errno == EACCES);
	MUST(open("/", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES);
	MUST(unlink(readable) && errno == EACCES);
	MUST(open(readable, O_WRONLY) < 0 && errno == EACCES);
	MUST((open(readable, O_RDONLY) >= 0) == !!opaque);
	MUST(open_by_ring("/dev/null") == -EACCES);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 4)
		MUST(bind(fd, (struct sockaddr *)&address, sizeof(address)) && errno == EACCES);
}

static void test_landlock(void **state)
{
	int rules = landlock_rules(LANDLOCK_NO_NETWORK, NULL, -1);

	(void)state;
	if (rules == -EOPNOTSUPP)
		skip();
	close(rules);
	assert_int_equal(child(live_without_files, NULL), 0);
	assert_int_equal(child(live_without_files, readable), 0);
}

#if !FILTER_SANITIZED
/* An old container's list of calls forbids Landlock: then the filter has to do. */
static void live_without_landlock(void *opaque)
{
	static const struct sandbox_options options;
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct sandbox *sandbox;

	(void)opaque;
	MUST(!seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(landlock_create_ruleset),
			       0));
	MUST(!seccomp_load(filter));
	MUST(landlock_rules(LANDLOCK_NO_NETWORK, NULL, -1) == -EPERM);
	log_set_verbose(true);
	sandbox = prepare(&options);
	enter(sandbox);
	open("/dev/null", O_RDONLY);
}

static void test_forbidden_landlock(void **state)
{
	(void)state;
	assert_int_equal(child(live_without_landlock, NULL), EXIT_CRASHED);
	assert_non_null(strstr(said, "Landlock is forbidden here"));
	assert_non_null(strstr(said, "the sandbox denied open"));
}

/* Nobody reads what it has to say: it is not said, but comes to its end. */
static void be_denied_unread(void *opaque)
{
	int words[2];
	char page[4096] = "";

	(void)opaque;
	MUST(!pipe2(words, O_NONBLOCK));
	while (write(words[1], page, sizeof(page)) > 0)
		;
	MUST(!fcntl(words[1], F_SETFL, 0));
	dup2(words[1], STDERR_FILENO);
	lock_in();
	open("/dev/null", O_RDONLY);
}

static void test_denied_unread(void **state)
{
	(void)state;
	assert_int_equal(child(be_denied_unread, NULL), EXIT_CRASHED);
}
#endif

/* Helpers */

static void help(enum sandbox_helper kind)
{
	struct problem why;

	if (sandbox_helper(kind, -1, &why)) {
		dprintf(STDERR_FILENO, "%s\n", why.text);
		_exit(WRONG);
	}
}

static void be_slirp(void *action)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int fd, peer;

	help(SANDBOX_SLIRP);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	MUST(fd >= 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	MUST(!bind(fd, (struct sockaddr *)&address, sizeof(address)));
	MUST(!listen(fd, 1));
	MUST(!getsockname(fd, (struct sockaddr *)&address, &length));
	peer = socket(AF_INET, SOCK_STREAM, 0);
	MUST(!connect(peer, (struct sockaddr *)&address, sizeof(address)));
	MUST(accept4(fd, NULL, NULL, 0) >= 0);
#if !FILTER_SANITIZED
	/* Where the nameservers are is all that it can find out. */
	MUST(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	MUST(open("/etc/resolv.conf", O_RDONLY) >= 0 || errno == ENOENT || errno == EACCES);
#endif
	((void (*)(void))action)();
}

static void be_switch(void *action)
{
	help(SANDBOX_SWITCH);
	do_network();
	((void (*)(void))action)();
}

static void do_nothing(void)
{
}

#if !FILTER_SANITIZED
static void do_write_file(void)
{
	open("/etc/resolv.conf", O_WRONLY);
}
#endif

static void test_helpers(void **state)
{
	(void)state;
	assert_int_equal(child(be_slirp, do_nothing), 0);
	assert_int_equal(child(be_slirp, do_execve), EXIT_CRASHED);
	assert_non_null(strstr(said, "the sandbox denied execve("));
	assert_int_equal(child(be_slirp, do_make_code), EXIT_CRASHED);
	assert_int_equal(child(be_switch, do_nothing), 0);
	assert_int_equal(child(be_switch, do_socket), EXIT_CRASHED);
	assert_non_null(strstr(said, "the sandbox denied socket("));
#if !FILTER_SANITIZED
	if (landlock_rules(LANDLOCK_NO_NETWORK, NULL, -1) >= 0)
		assert_int_equal(child(be_slirp, do_write_file), EXIT_CRASHED);
	assert_int_equal(child(be_switch, do_write_file), EXIT_CRASHED);
#endif
}

static int set_up(void **state)
{
	(void)state;
	parent = getpid();
	file_fd = mkstemp(readable);
	if (file_fd < 0 || write(file_fd, "words", 5) != 5)
		return -1;
	return socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(readable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_every_thread),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_off),
		cmocka_unit_test(test_not_found),
		cmocka_unit_test(test_not_root),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_landlock),
#if !FILTER_SANITIZED
		cmocka_unit_test(test_forbidden_landlock),
		cmocka_unit_test(test_denied_unread),
#endif

		cmocka_unit_test(test_helpers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
