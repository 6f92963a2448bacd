/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the fuzzers of the board and of virtio share: bytes of the input taken as
 * numbers, and assertions that stop the fuzzer.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include "host/types.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* assert() is not for this: it must hold in every build. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s: line %d: %s\n", __FILE__, __LINE__, #condition);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct input {
	const u8 *data;
	size_t left;
};

/* The next bytes as a number; 0 once there are none. */
static inline u64 take(struct input *input, unsigned bytes)
{
	u64 value = 0;

	for (; bytes && input->left; bytes--, input->left--)
		value = value << 8 | *input->data++;
	return value;
}

/* Nobody holds it: what is called from here may take it. */
static inline void must_be_unlocked(pthread_mutex_t *lock)
{
	MUST(!pthread_mutex_trylock(lock));
	pthread_mutex_unlock(lock);
}

#endif
