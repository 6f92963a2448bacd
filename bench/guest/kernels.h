/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small kernels, each of which keeps one part of a machine busy: for a program that is
 * run on the bare host and in guests, so that what a guest costs can be told apart by what
 * the guest does. main.c has the list and the clock; processor.c what stays in registers
 * and caches, memory.c what goes beyond them, system.c what asks the (guest's) kernel.
 *
 * A kernel works in chunks, all of the same size and with the same result, which says
 * whether it was done right: no figure is given for work that went wrong.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

struct kernel {
	const char *name;
	const char *unit;	  /* of what is counted */
	u64 operations;		  /* in a chunk */
	u64 result;		  /* of each chunk */
	void *(*prepare)(void);	  /* what chunk() is to work on: not timed, may be absent */
	u64 (*chunk)(void *data); /* returns its result */
	void (*release)(void *data);
};

extern const struct kernel processor_kernels[], memory_kernels[], system_kernels[];
extern const size_t processor_kernels_count, memory_kernels_count, system_kernels_count;

void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/*
 * Memory in small pages, all there: hosts and guests have different ideas of when to use huge
 * ones. Never fails. give_back() takes the same size.
 */
void *take(size_t size);
void give_back(void *memory, size_t size);

/* A generator of numbers without any pattern, always the same: xorshift, period 2^64 - 1. */
static inline u64 next_random(u64 *state)
{
	u64 x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x;
}

#define RANDOM_SEED 88172645463325252

/* What is computed but not wanted is computed all the same. */
#define consume(value) __asm__ volatile("" : : "r,m"(value) : "memory")

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
