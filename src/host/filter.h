/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters of system calls: what each kind of thread may ask of the kernel, as
 * programs that the kernel runs before every call. The lists, and nothing but the
 * lists: sandbox.c decides who gets which, and when.
 *
 * Tour 7.30: Who may ask the kernel for what
 */
#ifndef HOST_FILTER_H
#define HOST_FILTER_H

#include "host/problem.h"

#include <linux/filter.h>

/* A sanitiser is in the program, who needs more calls than we do: gcc's words, and clang's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FILTER_SANITIZED 1
#elif defined(__has_feature)
#define FILTER_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define FILTER_SANITIZED 0
#endif

enum filter_kind {
	FILTER_MAIN,
	FILTER_VCPU,
	FILTER_QUEUE,
	FILTER_SLIRP,	    /* where there is no Landlock */
	FILTER_SLIRP_READS, /* may open for reading what Landlock leaves */
	FILTER_SWITCH,
};

/* Does this kernel do what we need? -errno with *problem filled. */
int filter_check(struct problem *problem);

/*
 * A program for this kind, to be freed with filter_free(); it may signal this very process and no
 * other. -errno with *problem filled.
 */
int filter_make(struct sock_fprog *program, enum filter_kind kind, struct problem *problem);
void filter_free(struct sock_fprog *program);

/*
 * From now on it holds for the calling thread, or for every thread there is, and for all that
 * they make. -errno.
 */
int filter_install(const struct sock_fprog *program, bool every_thread);

#define FILTER_NAME_MAX 32
#define FILTER_NAMES	512 /* numbers of x86-64: "common" and "64" end below that */

/* The names of all calls: while there is time to look them up, a signal handler having none. */
void filter_names(char names[FILTER_NAMES][FILTER_NAME_MAX]);

#endif
