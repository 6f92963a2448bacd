/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk's back end (host/disk.c, host/disk_queue.c): what opens and what does
 * not, who keeps whom out, and requests of each kind. Those are made both ways, by
 * io_uring and without; what must come out is the same, in the file as well, which
 * is never longer than it was.
 *
 * What needs a block device makes one (a loop device), and is skipped by whoever may not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE  MiB(2)
#define DEPTH 32

struct fixture {
	const bool *synchronous;
	char directory[32];
	char file[64];
	int fd; /* of the file, for looking at it from the other side */
	struct disk_options options;
	struct disk disk;
	struct disk_queue *queue;
	struct machine machine; /* only its state */
	u8 *memory;		/* a megabyte, aligned */
	int saved_stderr, caught;
	char said[4096];
};

#define MEMORY MiB(1)

/* What lguest prints is caught: some of it is to be looked at, and none of it to be seen. */
static const char *said(struct fixture *f)
{
	ssize_t n = pread(f->caught, f->said, sizeof(f->said) - 1, 0);

	f->said[n > 0 ? n : 0] = '\0';
	assert_int_equal(ftruncate(f->caught, 0), 0);
	lseek(f->caught, 0, SEEK_SET);
	return f->said;
}

static void close_disk(struct fixture *f)
{
	disk_queue_free(f->queue);
	f->queue = NULL;
	disk_close(&f->disk);
}

/* Open it as `options` say, for requests in the way of this run. */
static void open_disk(struct fixture *f)
{
	struct problem why;

	close_disk(f);
	if (disk_open(&f->disk, &f->options, &why))
		fail_msg("%s", why.text);
	f->disk.synchronous = *f->synchronous;
	f->queue = disk_queue_new(&f->disk, &f->machine, DEPTH, &why);
	assert_non_null(f->queue);
	/* Where the host has no io_uring at all, there is nothing to be learned here. */
	if (!*f->synchronous && disk_queue_fd(f->queue) < 0)
		skip();
}

static int setup_in(void **state, const char *directory)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->synchronous = *state;
	snprintf(f->directory, sizeof(f->directory), "%s/lguest-disk-XXXXXX", directory);
	assert_non_null(mkdtemp(f->directory));
	snprintf(f->file, sizeof(f->file), "%s/disk", f->directory);
	f->fd = open(f->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, SIZE), 0);
	f->options.file = f->file;
	f->disk.fd = f->disk.cached_fd = -1;
	f->memory = aligned_alloc(PAGE_SIZE, MEMORY);
	assert_non_null(f->memory);
	fflush(stderr);
	f->saved_stderr = dup(STDERR_FILENO);
	f->caught = memfd_create("stderr", MFD_CLOEXEC);
	dup2(f->caught, STDERR_FILENO);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_in(state, "/tmp");
}

/* A file system without block devices below has other ideas of what it can do. */
static int setup_shm(void **state)
{
	return setup_in(state, "/dev/shm");
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	dup2(f->saved_stderr, STDERR_FILENO);
	close(f->saved_stderr);
	fputs(said(f), stderr);
	close(f->caught);
	close_disk(f);
	close(f->fd);
	unlink(f->file);
	rmdir(f->directory);
	free(f->memory);
	free(f);
	return 0;
}

/* Bytes that depend on where they are, and on whose they are. */
static void fill(u8 *data, u64 len, u64 offset, u8 salt)
{
	for (u64 i = 0; i < len; i++)
		data[i] = (offset + i) * 7 + ((offset + i) >> 9) * 13 + salt;
}

static void assert_filled(const u8 *data, u64 len, u64 offset, u8 salt)
{
	u8 *want = malloc(len);

	assert_non_null(want);
	fill(want, len, offset, salt);
	assert_memory_equal(data, want, len);
	free(want);
}

static void assert_zero(const u8 *data, u64 len)
{
	for (u64 i = 0; i < len; i++)
		assert_int_equal(data[i], 0);
}

static void fill_file(struct fixture *f, u8 salt)
{
	u8 *data = malloc(SIZE);

	assert_non_null(data);
	fill(data, SIZE, 0, salt);
	assert_int_equal(pwrite(f->fd, data, SIZE, 0), SIZE);
	free(data);
}

/* A piece of the file, as others see it. */
static const u8 *file_at(struct fixture *f, u64 offset, u64 len)
{
	static u8 data[SIZE];

	assert_true(len <= SIZE);
	assert_int_equal(pread(f->fd, data, len, offset), len);
	return data;
}

static u64 file_size(struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	return st.st_size;
}

static u64 file_blocks(struct fixture *f)
{
	struct stat st;

	assert_int_equal(fsync(f->fd), 0);
	assert_int_equal(fstat(f->fd, &st), 0);
	return st.st_blocks;
}

/* As the device's thread does it: asleep on the descriptor, unless there is no need for one. */
static struct disk_request *await(struct disk_queue *queue)
{
	struct disk_request *request;

	while (!(request = disk_take(queue))) {
		struct pollfd fd = {.fd = disk_queue_fd(queue), .events = POLLIN};

		assert_true(fd.fd >= 0);
		assert_int_equal(poll(&fd, 1, 20000), 1);
	}
	return request;
}

/* One request, from the beginning to the end. */
static int request(struct fixture *f, struct disk_request *request)
{
	request->result = 77;
	disk_put(f->queue, request);
	assert_int_equal(disk_in_flight(f->queue), 1);
	disk_send(f->queue);
	assert_ptr_equal(await(f->queue), request);
	assert_int_equal(disk_in_flight(f->queue), 0);
	assert_null(disk_take(f->queue));
	return request->result;
}

static int transfer(struct fixture *f, enum disk_operation operation, u64 offset, u8 *data, u64 len)
{
	struct iovec iov = {data, len};
	struct disk_request r = {
		.operation = operation,
		.offset = offset,
		.len = len,
		.iov = &iov,
		.iov_count = 1,
	};

	return request(f, &r);
}

static int simple(struct fixture *f, enum disk_operation operation, u64 offset, u64 len, bool unmap)
{
	struct disk_request r = {
		.operation = operation, .offset = offset, .len = len, .unmap = unmap};

	return request(f, &r);
}

/* Opening */

static void assert_refused(struct fixture *f, int err, const char *why_not)
{
	struct problem why = {""};
	struct disk disk;

	assert_int_equal(disk_open(&disk, &f->options, &why), -err);
	if (!strstr(why.text, why_not) || !strstr(why.text, f->options.file))
		fail_msg("\"%s\" does not say \"%s\"", why.text, why_not);
	assert_null(strchr(why.text, '\n'));
	assert_int_equal(disk.fd, -1);
	assert_string_equal(said(f), "");
}

static void test_what_cannot_be_opened(void **state)
{
	struct fixture *f = *state;
	char fifo[80];

	f->options.file = "/nonexistent/disk";
	assert_refused(f, ENOENT, "No such file");
	f->options.file = f->directory;
	assert_refused(f, EINVAL, "is a directory, neither");
	f->options.read_only = true;
	assert_refused(f, EINVAL, "is a directory, neither");
	f->options.file = "/dev/null";
	assert_refused(f, EINVAL, "is a device, neither");
	f->options.read_only = false;
	snprintf(fifo, sizeof(fifo), "%s/fifo", f->directory);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	f->options.file = fifo;
	assert_refused(f, EINVAL, "is a pipe or socket, neither");
	unlink(fifo);
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_refused(f, EINVAL, "is empty");
	assert_int_equal(ftruncate(f->fd, 511), 0);
	assert_refused(f, EINVAL, "has only 511 bytes");
	assert_int_equal(ftruncate(f->fd, 512), 0);
	open_disk(f);
	assert_true(f->disk.sectors == 1);
	assert_string_equal(said(f), "");
	assert_int_equal(ftruncate(f->fd, 1023), 0);
	open_disk(f);
	assert_true(f->disk.sectors == 1);
	assert_non_null(strstr(said(f), "ends with 511 bytes that are no whole sector"));
	assert_int_equal(ftruncate(f->fd, SIZE), 0);
	open_disk(f);
	assert_true(f->disk.sectors == SIZE / 512);
	assert_true(file_size(f) == SIZE);
}

static void test_only_readable(void **state)
{
	struct fixture *f = *state;

	/* Even root may not write to a file that is being executed. */
	f->options.file = "/proc/self/exe";
	assert_refused(f, ETXTBSY, ",ro only reads it");
	f->options.read_only = true;
	open_disk(f);
	assert_true(f->disk.read_only);
	assert_false(f->disk.can_discard);
	said(f); /* a program may end anywhere */
	assert_int_equal(transfer(f, DISK_READ, 0, f->memory, 512), 0);
	assert_memory_equal(f->memory, "\177ELF", 4);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
}

/* Locks */

static bool can_open(struct fixture *f, bool read_only)
{
	struct disk_options options = {.file = f->file, .read_only = read_only};
	struct problem why = {""};
	struct disk disk;
	int err = disk_open(&disk, &options, &why);

	if (!err) {
		disk_close(&disk);
		return true;
	}
	assert_int_equal(err, -EBUSY);
	assert_non_null(strstr(why.text, f->file));
	assert_non_null(strstr(why.text, "in use"));
	return false;
}

static void test_locks(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	assert_false(can_open(f, false));
	assert_false(can_open(f, true));
	close_disk(f);
	f->options.read_only = true;
	open_disk(f);
	assert_true(can_open(f, true));
	assert_false(can_open(f, false));
	close_disk(f);
	assert_true(can_open(f, false));
}

/* Lock one byte for reading, as QEMU does for each thing it does (100 + n) or denies (200 + n). */
static void qemu_locks(int fd, off_t byte)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
}

static bool qemu_may(int fd, off_t byte)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
	return lock.l_type == F_UNLCK;
}

static void test_locks_of_qemu(void **state)
{
	struct fixture *f = *state;
	int reader = open(f->file, O_RDONLY | O_CLOEXEC);

	/* It reads, and denies others to write or to resize: two readers are none too many. */
	qemu_locks(reader, 100);
	qemu_locks(reader, 201);
	qemu_locks(reader, 203);
	assert_true(can_open(f, true));
	assert_false(can_open(f, false));
	f->options.read_only = true;
	open_disk(f);
	assert_true(qemu_may(reader, 200)); /* does anybody deny reading? */
	assert_true(qemu_may(reader, 101)); /* does anybody write? */
	assert_true(qemu_may(reader, 103));
	close(reader);

	/* What it asks before it writes: does anybody deny that, and does anybody write? */
	assert_false(qemu_may(f->fd, 201));
	assert_false(qemu_may(f->fd, 203));
	f->options.read_only = false;
	open_disk(f);
	assert_false(qemu_may(f->fd, 201));
	assert_false(qemu_may(f->fd, 101));
	close_disk(f);

	/* It writes. */
	qemu_locks(f->fd, 100);
	qemu_locks(f->fd, 101);
	assert_false(can_open(f, true));
	assert_false(can_open(f, false));
}

/* Requests */

static void test_ways(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	assert_int_equal(disk_queue_fd(f->queue) < 0, *f->synchronous);
	/* io_uring would hand each "would block" on to us. */
	assert_false(fcntl(f->disk.fd, F_GETFL) & O_NONBLOCK);
	assert_null(disk_take(f->queue));
	disk_send(f->queue);
	assert_int_equal(disk_in_flight(f->queue), 0);
}

static void test_read_and_write(void **state)
{
	struct fixture *f = *state;

	fill_file(f, 1);
	open_disk(f);
	assert_int_equal(transfer(f, DISK_READ, 512, f->memory, 4096), 0);
	assert_filled(f->memory, 4096, 512, 1);
	fill(f->memory, 1024, 0, 2);
	assert_int_equal(transfer(f, DISK_WRITE, SIZE - 1024, f->memory, 1024), 0);
	assert_filled(file_at(f, SIZE - 1024, 1024), 1024, 0, 2);
	assert_filled(file_at(f, SIZE - 2048, 1024), 1024, SIZE - 2048, 1);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
	assert_true(file_size(f) == SIZE);
	/* Nothing at all is soon done. */
	assert_int_equal(transfer(f, DISK_READ, SIZE, f->memory, 0), 0);
	assert_int_equal(transfer(f, DISK_WRITE, 0, f->memory, 0), 0);
	assert_int_equal(simple(f, DISK_ZERO, 0, 0, true), 0);
	assert_int_equal(simple(f, DISK_DISCARD, 0, 0, false), 0);
	assert_filled(file_at(f, 0, 4096), 4096, 0, 1);
}

/* A buffer of each length up to 40, in a row: they are the caller's, and are not changed. */
static void test_many_buffers(void **state)
{
	struct fixture *f = *state;
	struct iovec iov[41], before[41];
	struct disk_request r = {.offset = 4096, .iov = iov};
	u64 at = 0;

	for (unsigned i = 0; i < 40; i++) {
		iov[i] = (struct iovec){f->memory + at, i + 1};
		at += i + 1;
	}
	r.len = align_up(at, 512);
	iov[40] = (struct iovec){f->memory + at, r.len - at};
	r.iov_count = 41;
	memcpy(before, iov, sizeof(iov));
	open_disk(f);
	fill(f->memory, r.len, 0, 3);
	r.operation = DISK_WRITE;
	assert_int_equal(request(f, &r), 0);
	assert_filled(file_at(f, 4096, r.len), r.len, 0, 3);
	memset(f->memory, 0, r.len);
	r.operation = DISK_READ;
	assert_int_equal(request(f, &r), 0);
	assert_filled(f->memory, r.len, 0, 3);
	assert_memory_equal(iov, before, sizeof(iov));
}

static void test_many_at_once(void **state)
{
	struct fixture *f = *state;
	struct disk_request r[DEPTH] = {0};
	struct iovec iov[DEPTH];
	bool seen[DEPTH] = {false};

	open_disk(f);
	fill(f->memory, DEPTH * 4096, 0, 4);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			/* Two in one page of the file do not disturb each other. */
			const u64 offset = (DEPTH - 1 - i) * 512 * 5;

			iov[i] = (struct iovec){f->memory + offset, 512 * 5};
			r[i] = (struct disk_request){
				.operation = round % 2 ? DISK_READ : DISK_WRITE,
				.offset = offset,
				.len = 512 * 5,
				.iov = &iov[i],
				.iov_count = 1,
				.result = 77,
			};
			disk_put(f->queue, &r[i]);
		}
		assert_int_equal(disk_in_flight(f->queue), DEPTH);
		disk_send(f->queue);
		for (unsigned i = 0; i < DEPTH; i++) {
			struct disk_request *done = await(f->queue);

			assert_int_equal(done->result, 0);
			assert_false(seen[done - r] == !(round % 2));
			seen[done - r] = !(round % 2);
			assert_int_equal(disk_in_flight(f->queue), DEPTH - 1 - i);
		}
		assert_null(disk_take(f->queue));
		assert_filled(f->memory, DEPTH * 512 * 5, 0, 4);
		assert_filled(file_at(f, 0, DEPTH * 512 * 5), DEPTH * 512 * 5, 0, 4);
		if (!(round % 2))
			memset(f->memory, 0, DEPTH * 512 * 5);
	}
}

static void test_wait(void **state)
{
	struct fixture *f = *state;
	struct disk_request r[DEPTH] = {0};
	unsigned taken = 0;

	open_disk(f);
	for (unsigned i = 0; i < DEPTH; i++) {
		r[i].operation = DISK_FLUSH;
		disk_put(f->queue, &r[i]);
	}
	disk_send(f->queue);
	while (disk_in_flight(f->queue)) {
		disk_wait(f->queue);
		while (disk_take(f->queue))
			taken++;
	}
	assert_int_equal(taken, DEPTH);
}

/* <linux/mman.h>, which is not so new everywhere (Linux 6.5). */
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

/* Pages of the file that the host has not written yet. -1: it does not tell. */
static long unwritten(struct fixture *f)
{
	const struct {
		u64 offset, len;
	} all = {0, 0};
	struct {
		u64 cached, dirty, writeback, evicted, recently_evicted;
	} pages;

	if (syscall(__NR_cachestat, f->fd, &all, &pages, 0))
		return -1;
	return pages.dirty + pages.writeback;
}

static void test_durable(void **state)
{
	struct fixture *f = *state;
	const bool tells = unwritten(f) >= 0;
	struct iovec iov = {f->memory, 8192};
	struct disk_request r = {
		.operation = DISK_WRITE,
		.durable = true,
		.offset = 512,
		.len = 8192,
		.iov = &iov,
		.iov_count = 1,
	};

	open_disk(f);
	fill(f->memory, 8192, 0, 5);
	assert_int_equal(request(f, &r), 0);
	assert_true(!tells || unwritten(f) == 0);
	assert_filled(file_at(f, 512, 8192), 8192, 0, 5);
	r.operation = DISK_ZERO;
	r.len = 4096;
	assert_int_equal(request(f, &r), 0);
	assert_true(!tells || unwritten(f) == 0);
	assert_zero(file_at(f, 512, 4096), 4096);
	assert_filled(file_at(f, 512 + 4096, 4096), 4096, 4096, 5);
}

/* What was written before a flush is durable after it; and so is what one buffer could not hold. */
static void test_flush(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	if (unwritten(f) < 0)
		skip();
	fill(f->memory, 8192, 0, 5);
	assert_int_equal(transfer(f, DISK_WRITE, 512, f->memory, 8192), 0);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
	assert_true(unwritten(f) == 0);
}

/*
 * A transfer that the kernel cuts short, in the middle of a buffer: there is a page that it cannot
 * get at, until we let it. Only a ring leaves us the time, and a small write goes through it only
 * if it is to be durable.
 */
static void test_cut_short(void **state)
{
	struct fixture *f = *state;
	const u64 len = 3 * PAGE_SIZE;
	struct iovec iov[] = {
		{f->memory, 100}, {f->memory + 100, len - 200}, {f->memory + len - 100, 100}};

	open_disk(f);
	for (unsigned pass = 0; pass < 2; pass++) {
		struct disk_request r = {
			.operation = pass ? DISK_READ : DISK_WRITE,
			.durable = !pass,
			.offset = 512,
			.len = len,
			.iov = iov,
			.iov_count = ARRAY_SIZE(iov),
		};
		struct pollfd fd = {.fd = disk_queue_fd(f->queue), .events = POLLIN};

		if (!pass)
			fill(f->memory, len, 0, 19);
		else
			memset(f->memory, 0, len);
		assert_int_equal(mprotect(f->memory + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
		disk_put(f->queue, &r);
		disk_send(f->queue);
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_int_equal(mprotect(f->memory + PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE),
				 0);
		assert_ptr_equal(await(f->queue), &r);
		assert_int_equal(r.result, 0);
		assert_filled(f->memory, len, 0, 19);
		assert_filled(file_at(f, 512, len), len, 0, 19);
	}
}

/* The file became shorter: that is an error, and it does not become longer again by reading. */
static void test_truncated(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	assert_int_equal(ftruncate(f->fd, 8192 + 100), 0);
	assert_int_equal(transfer(f, DISK_READ, 8192, f->memory, 4096), -EIO);
	assert_int_equal(transfer(f, DISK_READ, 65536, f->memory, 4096), -EIO);
	assert_int_equal(transfer(f, DISK_READ, 4096, f->memory, 4096), 0);
	assert_true(file_size(f) == 8192 + 100);
}

/*
 * A write that comes back short: here because no file may grow past 1 MiB. The second half fails,
 * and with it the whole.
 */
static void test_error_in_the_middle(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, limit;

	open_disk(f);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = MiB(1);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	fill(f->memory, 16384, 0, 6);
	assert_int_equal(transfer(f, DISK_WRITE, MiB(1) - 8192, f->memory, 16384), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(file_size(f) == MiB(1));
	assert_filled(file_at(f, MiB(1) - 8192, 8192), 8192, 0, 6);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;

	fill_file(f, 7);
	f->options.read_only = true;
	open_disk(f);
	assert_int_equal(transfer(f, DISK_READ, 0, f->memory, 4096), 0);
	assert_filled(f->memory, 4096, 0, 7);
	/* The device does not let these through; the descriptor would not, either. */
	assert_int_equal(transfer(f, DISK_WRITE, 0, f->memory, 4096), -EBADF);
	assert_int_equal(simple(f, DISK_ZERO, 0, 4096, false), -EBADF);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
}

static void test_zero(void **state)
{
	struct fixture *f = *state;

	fill_file(f, 8);
	open_disk(f);
	/* Neither end is the end of a block; long enough for zeroes to be written in several goes.
	 */
	for (unsigned unmap = 0; unmap < 2; unmap++) {
		const u64 offset = 512 * 3, len = MiB(1) + KiB(64) + 512 * 2;

		fill_file(f, 8);
		assert_int_equal(simple(f, DISK_ZERO, offset, len, unmap), 0);
		assert_filled(file_at(f, 0, offset), offset, 0, 8);
		assert_zero(file_at(f, offset, len), len);
		assert_filled(file_at(f, offset + len, 4096), 4096, offset + len, 8);
	}
	assert_int_equal(simple(f, DISK_ZERO, SIZE - 512, 512, true), 0);
	assert_zero(file_at(f, SIZE - 512, 512), 512);
	assert_true(file_size(f) == SIZE);
}

/*
 * The file system makes no zeroes, and those that we have do not lie as O_DIRECT wants: as no disk
 * of this machine does, so that only our own notes say so.
 */
static void test_zero_badly_aligned(void **state)
{
	struct fixture *f = *state;
	struct problem why;

	fill_file(f, 8);
	open_disk(f);
	disk_queue_free(f->queue);
	f->disk.memory_alignment = f->disk.block_size = KiB(64);
	f->queue = disk_queue_new(&f->disk, &f->machine, DEPTH, &why);
	assert_non_null(f->queue);
	assert_int_equal(simple(f, DISK_ZERO, KiB(64), MiB(1), false), 0);
	assert_filled(file_at(f, 0, KiB(64)), KiB(64), 0, 8);
	assert_zero(file_at(f, KiB(64), MiB(1)), MiB(1));
	assert_filled(file_at(f, KiB(64) + MiB(1), 4096), 4096, KiB(64) + MiB(1), 8);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	u64 blocks;

	fill_file(f, 9);
	open_disk(f);
	assert_true(f->disk.can_discard);
	blocks = file_blocks(f);
	assert_int_equal(simple(f, DISK_DISCARD, KiB(64), KiB(512), false), 0);
	assert_true(file_blocks(f) <= blocks - KiB(512) / 512);
	assert_filled(file_at(f, 0, KiB(64)), KiB(64), 0, 9);
	assert_filled(file_at(f, KiB(576), 4096), 4096, KiB(576), 9);
	blocks = file_blocks(f);
	assert_int_equal(simple(f, DISK_ZERO, KiB(1024), KiB(512), true), 0);
	assert_true(file_blocks(f) <= blocks - KiB(512) / 512);
	assert_true(file_size(f) == SIZE);
}

/* A file full of holes. */
static void test_holes(void **state)
{
	struct fixture *f = *state;

	open_disk(f);
	assert_true(file_blocks(f) == 0);
	memset(f->memory, 0xff, 8192);
	assert_int_equal(transfer(f, DISK_READ, MiB(1), f->memory, 8192), 0);
	assert_zero(f->memory, 8192);
	assert_true(file_blocks(f) == 0);
	fill(f->memory, 512, 0, 10);
	assert_int_equal(transfer(f, DISK_WRITE, MiB(1) + 512, f->memory, 512), 0);
	assert_filled(file_at(f, MiB(1) + 512, 512), 512, 0, 10);
	assert_zero(file_at(f, MiB(1) + 1024, 3072), 3072);
}

/* Past the host's cache */

static bool open_direct(struct fixture *f)
{
	struct problem why;
	struct disk disk;
	int err;

	f->options.direct = true;
	err = disk_open(&disk, &f->options, &why);
	if (err) {
		/* Not every file system has it; then that is what is said. */
		assert_int_equal(err, -EINVAL);
		assert_non_null(strstr(why.text, "no direct access"));
		return false;
	}
	disk_close(&disk);
	open_disk(f);
	assert_true(f->disk.memory_alignment);
	return true;
}

static void test_direct(void **state)
{
	struct fixture *f = *state;

	fill_file(f, 11);
	if (!open_direct(f))
		skip();
	assert_int_equal(transfer(f, DISK_READ, 0, f->memory, 65536), 0);
	assert_filled(f->memory, 65536, 0, 11);
	fill(f->memory, 8192, 0, 12);
	assert_int_equal(transfer(f, DISK_WRITE, 4096, f->memory, 8192), 0);
	assert_filled(file_at(f, 4096, 8192), 8192, 0, 12);
	assert_int_equal(simple(f, DISK_ZERO, 512, 1024, false), 0);
	assert_zero(file_at(f, 512, 1024), 1024);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
	/* A sector by itself, even where the host's are larger. */
	fill(f->memory, 512, 0, 13);
	assert_int_equal(transfer(f, DISK_WRITE, SIZE - 512, f->memory, 512), 0);
	assert_filled(file_at(f, SIZE - 512, 512), 512, 0, 13);
	assert_filled(file_at(f, SIZE - 1024, 512), 512, SIZE - 1024, 11);
	assert_true(file_size(f) == SIZE);
}

/* More of them at once than there are bounce buffers, and each longer than one. */
static void test_direct_unaligned(void **state)
{
	struct fixture *f = *state;
	const u64 len = KiB(65) + 512;
	struct disk_request r[DEPTH] = {0};
	struct iovec iov[DEPTH][3];
	u8 *memory = malloc(len * DEPTH + 1);

	assert_non_null(memory);
	if (!open_direct(f)) {
		free(memory);
		skip();
	}
	assert_true(len * DEPTH < SIZE + MiB(1));
	for (unsigned pass = 0; pass < 2; pass++) {
		const unsigned count = SIZE / len;

		if (!pass)
			fill(memory + 1, len * count, 0, 14);
		for (unsigned i = 0; i < count; i++) {
			u8 *data = memory + 1 + len * i;

			iov[i][0] = (struct iovec){data, 100};
			iov[i][1] = (struct iovec){data + 100, KiB(64) + 1};
			iov[i][2] = (struct iovec){data + KiB(64) + 101, len - KiB(64) - 101};
			r[i] = (struct disk_request){
				.operation = pass ? DISK_READ : DISK_WRITE,
				.offset = len * i,
				.len = len,
				.iov = iov[i],
				.iov_count = 3,
			};
			disk_put(f->queue, &r[i]);
		}
		disk_send(f->queue);
		for (unsigned i = 0; i < count; i++)
			assert_int_equal(await(f->queue)->result, 0);
		assert_filled(memory + 1, len * count, 0, 14);
		assert_filled(file_at(f, 0, len * count), len * count, 0, 14);
		memset(memory, 0, len * count);
	}
	free(memory);
}

/* Block devices */

struct loop {
	int fd;
	char name[32];
};

/* False: not here. */
static bool loop_make(struct fixture *f, struct loop *loop, u32 block_size)
{
	struct loop_config config = {
		.fd = f->fd,
		.block_size = block_size,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	bool made = false;

	/* Somebody else may be faster. */
	for (unsigned tries = 0; control >= 0 && !made && tries < 10; tries++) {
		snprintf(loop->name, sizeof(loop->name), "/dev/loop%d",
			 ioctl(control, LOOP_CTL_GET_FREE));
		loop->fd = open(loop->name, O_RDWR | O_CLOEXEC);
		made = loop->fd >= 0 && !ioctl(loop->fd, LOOP_CONFIGURE, &config);
		if (!made)
			close(loop->fd);
	}
	close(control);
	f->options.file = loop->name;
	return made;
}

static void test_device(void **state)
{
	struct fixture *f = *state;
	struct loop loop;
	u64 blocks;

	fill_file(f, 15);
	if (!loop_make(f, &loop, 512))
		skip();
	open_disk(f);
	assert_true(f->disk.sectors == SIZE / 512);
	assert_int_equal(f->disk.block_size, 512);
	assert_true(f->disk.can_discard);
	assert_int_equal(transfer(f, DISK_READ, 1024, f->memory, 8192), 0);
	assert_filled(f->memory, 8192, 1024, 15);
	fill(f->memory, 512, 0, 16);
	assert_int_equal(transfer(f, DISK_WRITE, SIZE - 512, f->memory, 512), 0);
	assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
	assert_filled(file_at(f, SIZE - 512, 512), 512, 0, 16);
	for (unsigned unmap = 0; unmap < 2; unmap++) {
		assert_int_equal(simple(f, DISK_ZERO, 4096 << unmap, 4096, unmap), 0);
		assert_int_equal(transfer(f, DISK_READ, 4096 << unmap, f->memory, 4096), 0);
		assert_zero(f->memory, 4096);
	}
	blocks = file_blocks(f);
	assert_int_equal(simple(f, DISK_DISCARD, MiB(1), KiB(512), false), 0);
	assert_true(file_blocks(f) <= blocks - KiB(512) / 512);
	/* Somebody else wants it: not while it is ours. */
	assert_refused(f, EBUSY, "in use");
	close_disk(f);
	close(loop.fd);
}

/* Blocks of 4096 bytes, and a driver that has not read that. */
static void test_large_blocks(void **state)
{
	struct fixture *f = *state;
	struct loop loop;

	fill_file(f, 17);
	if (!loop_make(f, &loop, 4096))
		skip();
	for (unsigned direct = 0; direct < 2; direct++) {
		f->options.direct = direct;
		open_disk(f);
		assert_int_equal(f->disk.block_size, 4096);
		assert_int_equal(transfer(f, DISK_READ, 512, f->memory, 4096), 0);
		assert_filled(f->memory, 512, 512, 17 + direct);
		fill(f->memory, SIZE / 4, 0, 18);
		assert_int_equal(transfer(f, DISK_WRITE, 0, f->memory, SIZE / 4), 0);
		assert_int_equal(transfer(f, DISK_WRITE, SIZE / 2 + 512, f->memory + 512, 512), 0);
		assert_int_equal(transfer(f, DISK_READ, SIZE / 2, f->memory, 4096), 0);
		assert_filled(f->memory + 512, 512, 512, 18);
		assert_filled(f->memory + 1024, 512, SIZE / 2 + 1024, 17);
		assert_int_equal(simple(f, DISK_ZERO, SIZE / 2 + 1024, 512, true), 0);
		assert_int_equal(simple(f, DISK_DISCARD, SIZE / 2 + 2048, 512, false), 0);
		assert_int_equal(simple(f, DISK_FLUSH, 0, 0, false), 0);
		assert_filled(file_at(f, 0, SIZE / 4), SIZE / 4, 0, 18);
		assert_filled(file_at(f, SIZE / 2 + 512, 512), 512, 512, 18);
		assert_zero(file_at(f, SIZE / 2 + 1024, 512), 512);
		assert_filled(file_at(f, SIZE / 2 + 4096, 512), 512, SIZE / 2 + 4096, 17);
		fill(f->memory, 512, SIZE / 2 + 1024, 17);
		assert_int_equal(transfer(f, DISK_WRITE, SIZE / 2 + 1024, f->memory, 512), 0);
		close_disk(f);
	}
	close(loop.fd);
}

static const bool by_ring = false, by_hand = true;

#define BOTH_WAYS(test, setup)                                                                     \
	{#test " (io_uring)", test, setup, teardown, (void *)&by_ring},                            \
	{                                                                                          \
#test " (preadv)", test, setup, teardown, (void *)&by_hand                         \
	}

#define LARGE (MiB(7) + 512)

/* What makes more than one step, with edges of steps inside buffers and between them. */
static void test_large(void **state)
{
	static const u32 cuts[] = {512, MiB(1), MiB(1) - 512, MiB(2), MiB(1), MiB(2), 512};
	struct fixture *f = *state;
	u8 *data = malloc(LARGE), *back = calloc(1, LARGE);
	struct iovec iov[ARRAY_SIZE(cuts)];
	struct disk_request r = {
		.operation = DISK_WRITE,
		.offset = 512,
		.len = LARGE,
		.iov = iov,
		.iov_count = ARRAY_SIZE(cuts),
	};
	u64 at = 0;

	assert_non_null(data);
	assert_non_null(back);
	assert_int_equal(ftruncate(f->fd, MiB(8)), 0);
	open_disk(f);
	fill(data, LARGE, 512, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); at += cuts[i++])
		iov[i] = (struct iovec){data + at, cuts[i]};
	assert_int_equal(at, LARGE);
	assert_int_equal(request(f, &r), 0);
	assert_int_equal(pread(f->fd, back, LARGE, 512), LARGE);
	assert_memory_equal(back, data, LARGE);
	/* The same backwards: other cuts, and other edges. */
	memset(back, 0, LARGE);
	for (unsigned i = ARRAY_SIZE(cuts); i-- > 0; at -= cuts[i])
		iov[ARRAY_SIZE(cuts) - 1 - i] = (struct iovec){back + LARGE - at, cuts[i]};
	r.operation = DISK_READ;
	assert_int_equal(request(f, &r), 0);
	assert_memory_equal(back, data, LARGE);
	free(back);
	free(data);
}

/*
 * Without a ring disk_put() itself does all the steps; somebody else ends the machine once the
 * first of them is seen in the file.
 */
static void *end_machine(void *opaque)
{
	struct fixture *f = opaque;
	u8 first = 0;

	while (!first && pread(f->fd, &first, 1, 0) >= 0)
		;
	f->machine.state = MACHINE_STOPPED;
	return NULL;
}

/* A transfer into a hole, longer than anybody could wait for: the same 8 MiB again and again. */
static void assert_interrupted(struct fixture *f, const struct disk_request *pattern)
{
	static struct iovec iov[256];
	struct disk_request r = *pattern;
	pthread_t thread;

	for (unsigned i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = pattern->iov[0];
	r.iov = iov;
	r.iov_count = ARRAY_SIZE(iov);
	r.len = ARRAY_SIZE(iov) * iov[0].iov_len;
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(ftruncate(f->fd, r.len), 0);
	assert_int_equal(pthread_create(&thread, NULL, end_machine, f), 0);
	assert_int_equal(request(f, &r), -ECANCELED);
	pthread_join(thread, NULL);
	assert_true(file_blocks(f) < r.len / 512);
	f->machine.state = MACHINE_RUNNING;
}

/* In a hurry nothing more is begun; what was begun is awaited. */
static void test_hurry(void **state)
{
	struct fixture *f = *state;
	u8 *data = malloc(MiB(8));
	struct iovec iov = {data, MiB(8)};
	struct disk_request r = {
		.operation = DISK_WRITE, .len = MiB(8), .iov = &iov, .iov_count = 1};

	assert_non_null(data);
	memset(data, 0x55, MiB(8));
	assert_int_equal(ftruncate(f->fd, MiB(8)), 0);
	open_disk(f);
	f->machine.state = MACHINE_STOPPED;
	assert_int_equal(request(f, &r), -ECANCELED);
	assert_zero(file_at(f, 0, SIZE), SIZE);
	assert_int_equal(simple(f, DISK_ZERO, 0, MiB(1), false), -ECANCELED);
	f->machine.state = MACHINE_RUNNING;
	if (!*f->synchronous) {
		disk_put(f->queue, &r);
		f->machine.state = MACHINE_RESETTING;
		disk_send(f->queue);
		assert_ptr_equal(await(f->queue), &r);
		assert_int_equal(r.result, -ECANCELED);
		assert_memory_equal(file_at(f, 0, SIZE), data, SIZE);
		assert_zero(file_at(f, MiB(8) - SIZE, SIZE), SIZE);
		f->machine.state = MACHINE_RUNNING;
	} else {
		assert_interrupted(f, &r);
	}
	assert_int_equal(request(f, &r), 0);
	assert_memory_equal(file_at(f, MiB(8) - SIZE, SIZE), data, SIZE);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH_WAYS(test_what_cannot_be_opened, setup),
		BOTH_WAYS(test_sizes, setup),
		BOTH_WAYS(test_only_readable, setup),
		BOTH_WAYS(test_locks, setup),
		BOTH_WAYS(test_locks_of_qemu, setup),
		BOTH_WAYS(test_ways, setup),
		BOTH_WAYS(test_read_and_write, setup),
		BOTH_WAYS(test_read_and_write, setup_shm),
		BOTH_WAYS(test_many_buffers, setup),
		BOTH_WAYS(test_many_at_once, setup),
		BOTH_WAYS(test_wait, setup),
		BOTH_WAYS(test_durable, setup),
		BOTH_WAYS(test_durable, setup_shm),
		BOTH_WAYS(test_flush, setup),
		{"test_cut_short (io_uring)", test_cut_short, setup, teardown, (void *)&by_ring},
		BOTH_WAYS(test_truncated, setup),
		BOTH_WAYS(test_error_in_the_middle, setup),
		BOTH_WAYS(test_read_only, setup),
		BOTH_WAYS(test_zero, setup),
		BOTH_WAYS(test_zero, setup_shm),
		BOTH_WAYS(test_zero_badly_aligned, setup_shm),
		BOTH_WAYS(test_discard, setup),
		BOTH_WAYS(test_discard, setup_shm),
		BOTH_WAYS(test_holes, setup),
		BOTH_WAYS(test_direct, setup),
		BOTH_WAYS(test_direct, setup_shm),
		BOTH_WAYS(test_direct_unaligned, setup),
		BOTH_WAYS(test_device, setup),
		BOTH_WAYS(test_large_blocks, setup),
		BOTH_WAYS(test_large, setup),
		BOTH_WAYS(test_hurry, setup),
	};

	return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
