/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The few words that every file of lguest speaks: short integer names, sizes,
 * alignment. Nothing here knows about guests.
 *
 * Tour 1.20: The few words that every file speaks
 */
#ifndef HOST_TYPES_H
#define HOST_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define KiB(n) ((u64)(n) << 10)
#define MiB(n) ((u64)(n) << 20)
#define GiB(n) ((u64)(n) << 30)

#define PAGE_SIZE KiB(4)

/*
 * The only macros that everybody has to know. The last but one is how C does without classes:
 * who has a pointer to a member, and knows what it is a member of, gets a pointer to the
 * whole.
 *
 * Tour 1.21
 */
#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)			((a) < (b) ? (a) : (b))
#define MAX(a, b)			((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF(fmt, args)		__attribute__((format(printf, fmt, args)))

/*
 * `to` is a power of two. align_up() wraps to 0 past the top: check before, where the value is a
 * guest's.
 */
static inline u64 align_down(u64 value, u64 to)
{
	return value & ~(to - 1);
}

static inline u64 align_up(u64 value, u64 to)
{
	return align_down(value + to - 1, to);
}

/* `of` is a power of two. */
static inline bool is_multiple(u64 value, u64 of)
{
	return !(value & (of - 1));
}

static inline bool is_power_of_two(u64 value)
{
	return value && is_multiple(value, value);
}

#endif
