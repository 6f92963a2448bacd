/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locked instructions of two CPUs at once, on operands that are aligned, that lie
 * in two cache lines, and that lie in two pages: all are atomic (Intel SDM 3A, "Bus
 * Locking"). Sums come out exactly, locks made of them exclude, and stores beside
 * them are not undone.
 *
 * The pages that are next to each other here are not so in memory; and the second
 * CPU may know them by other addresses than the first.
 */
#include "lib/crew.h"
#include "lib/paging.h"

#define TEST   (1ull << 40)
#define ALIAS  (1ull << 41)
#define FRAMES MiB(32)
#define LINE   64u

/* One operation, so many times. */
typedef void operation(void *at, unsigned times);

#define REPEAT(name, type, ...)                                                                    \
	static void name(void *at, unsigned times)                                                 \
	{                                                                                          \
		volatile type *operand = at;                                                       \
		while (times--)                                                                    \
			__VA_ARGS__                                                                \
	}
#define PLAIN(name, type, text)                                                                    \
	REPEAT(name, type, asm volatile(text : "+m"(*operand) : "r"((type)1) : "memory", "cc");)
/* The sum of old values is not looked at: that of all increments tells as much. */
#define EXCHANGE_ADD(name, type)                                                                   \
	REPEAT(name, type, {                                                                       \
		type one = 1;                                                                      \
		asm volatile("lock xadd %1, %0" : "+m"(*operand), "+r"(one) : : "memory", "cc");   \
	})
#define COMPARE_EXCHANGE(name, type)                                                               \
	REPEAT(name, type, {                                                                       \
		type old = *operand;                                                               \
		bool done;                                                                         \
		do                                                                                 \
			asm volatile("lock cmpxchg %3, %0"                                         \
				     : "+m"(*operand), "+a"(old), "=@ccz"(done)                    \
				     : "r"((type)(old + 1))                                        \
				     : "memory");                                                  \
		while (!done);                                                                     \
	})

PLAIN(increment_2, u16, "lock incw %0")
PLAIN(increment_4, u32, "lock incl %0")
PLAIN(increment_8, u64, "lock incq %0")
PLAIN(add_2, u16, "lock add %1, %0")
PLAIN(add_4, u32, "lock add %1, %0")
PLAIN(add_8, u64, "lock add %1, %0")
PLAIN(subtract_8, u64, "lock subq $-1, %0")
EXCHANGE_ADD(exchange_add_2, u16)
EXCHANGE_ADD(exchange_add_4, u32)
EXCHANGE_ADD(exchange_add_8, u64)
COMPARE_EXCHANGE(compare_exchange_2, u16)
COMPARE_EXCHANGE(compare_exchange_4, u32)
COMPARE_EXCHANGE(compare_exchange_8, u64)

static void compare_exchange_8b(void *at, unsigned times)
{
	volatile u64 *operand = at;

	while (times--) {
		u32 low = (u32)*operand, high = (u32)(*operand >> 32);
		bool done;

		do {
			u64 new = ((u64)high << 32 | low) + 1;

			asm volatile("lock cmpxchg8b %0"
				     : "+m"(*operand), "+a"(low), "+d"(high), "=@ccz"(done)
				     : "b"((u32) new), "c"((u32)(new >> 32))
				     : "memory");
		} while (!done);
	}
}

static struct {
	unsigned times;
	operation *work[2];
	void *at[2];
	volatile bool go, here, stop;
	volatile u64 counter; /* guarded by a lock that is tested */
	volatile u64 lost;
} state;

static void second(void)
{
	state.here = true;
	while (!state.go)
		;
	state.work[1](state.at[1], state.times);
}

/* Both at the same time, as far as that can be had. */
static void both(operation *first_work, void *first, operation *second_work, void *other)
{
	state.work[0] = first_work;
	state.work[1] = second_work;
	state.at[0] = first;
	state.at[1] = other;
	state.go = state.here = false;
	crew_give(1, second);
	if (!wait_for(state.here))
		give_up("the second CPU begins");
	state.go = true;
	state.work[0](state.at[0], state.times);
	crew_wait(1);
}

static const struct place {
	const char *name;
	u64 offset; /* where the second part begins */
	bool split;
	unsigned times; /* fewer where each takes longer */
} places[] = {
	{"aligned", 128, false, 20000},
	{"in two cache lines", 5 * LINE, true, 3000},
	{"in two pages", PAGE, true, 600},
};

static void check_sums(const struct place *place)
{
	static const struct {
		const char *name;
		operation *work;
		unsigned size;
	} ways[] = {
		{"inc", increment_2, 2},
		{"inc", increment_4, 4},
		{"inc", increment_8, 8},
		{"add", add_2, 2},
		{"add", add_4, 4},
		{"add", add_8, 8},
		{"sub", subtract_8, 8},
		{"xadd", exchange_add_2, 2},
		{"xadd", exchange_add_4, 4},
		{"xadd", exchange_add_8, 8},
		{"cmpxchg", compare_exchange_2, 2},
		{"cmpxchg", compare_exchange_4, 4},
		{"cmpxchg", compare_exchange_8, 8},
		{"cmpxchg8b", compare_exchange_8b, 8},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		/* So many bytes are in the first part: each time others. */
		u64 before = place->split ? 1 + i % (ways[i].size - 1) : 0;
		u64 at = TEST + place->offset - before, alias = at + (i % 2 ? ALIAS - TEST : 0);
		u64 start = 0xfff0, sum = 0;

		/* Carries go through all of it. */
		memcpy((void *)at, &start, ways[i].size);
		both(ways[i].work, (void *)at, ways[i].work, (void *)alias);
		memcpy(&sum, (void *)at, ways[i].size);
		start += 2 * place->times;
		if (ways[i].size == 2)
			start &= 0xffff;
		check_equal(sum, start, "%s: lock %s of %u bytes", place->name, ways[i].name,
			    ways[i].size);
	}
}

/* ------------------------------------------------------------------ locks */

#define GUARDED(name, take, release)                                                               \
	static void name(void *at, unsigned times)                                                 \
	{                                                                                          \
		volatile u32 *lock = at;                                                           \
		while (times--) {                                                                  \
			bool taken;                                                                \
			for (;;) {                                                                 \
				take;                                                              \
				if (!taken)                                                        \
					break;                                                     \
				pause();                                                           \
			}                                                                          \
			state.counter++;                                                           \
			release;                                                                   \
		}                                                                                  \
	}

GUARDED(by_exchange, u32 value = 1; asm volatile("xchg %1, %0"
						 : "+m"(*lock), "+r"(value)
						 :
						 : "memory");
	taken = value;, asm volatile("movl $0, %0"
				     : "=m"(*lock)
				     :
				     : "memory"))
/* The bit in the last byte, the lock in the first. */
GUARDED(by_bit, asm volatile("lock btsl $30, %0"
			     : "+m"(*lock), "=@ccc"(taken)
			     :
			     : "memory");
	, asm volatile("lock btrl $30, %0"
		       : "+m"(*lock)
		       :
		       : "memory", "cc"))

static void check_locks(const struct place *place)
{
	static const struct {
		const char *name;
		operation *work;
	} ways[] = {{"xchg", by_exchange}, {"lock bts", by_bit}};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		u64 at = TEST + place->offset - (place->split ? 1 + i : 0);

		*(volatile u32 *)at = 0;
		state.counter = 0;
		both(ways[i].work, (void *)at, ways[i].work, (void *)(at + ALIAS - TEST));
		check_equal(state.counter, 2 * place->times, "%s: a lock by %s", place->name,
			    ways[i].name);
	}
}

/* ------------------------------------------------------------------ neighbours */

/* A byte that nobody else means to change. */
static void store_byte(void *at, unsigned times)
{
	volatile u8 *byte = at;

	while (times--) {
		*byte = (u8)times;
		for (unsigned i = 0; i < 4; i++)
			state.lost += *byte != (u8)times;
	}
}

static void check_neighbours(const struct place *place)
{
	/* The first half lies before the border, the second behind it. */
	u64 at = TEST + place->offset - (place->split ? 4 : 0);
	volatile u64 *sum = (u64 *)at;

	*sum = 0;
	both(add_8, (void *)at, increment_4, (void *)(at + 4 + ALIAS - TEST));
	check_equal(*sum, place->times + ((u64)place->times << 32), "%s: beside a locked half",
		    place->name);
	*sum = 0;
	state.lost = 0;
	both(exchange_add_8, (void *)at, store_byte, (void *)(at + 7));
	check_equal(state.lost, 0, "%s: stores to the last byte are not undone", place->name);
	state.lost = 0;
	both(store_byte, (void *)(at + ALIAS - TEST), compare_exchange_4, (void *)(at + 2));
	check_equal(state.lost, 0, "%s: nor to the first", place->name);
}

void guest_main(const struct boot *boot)
{
	interrupt_init();
	/* The second page lies before the first. */
	for (unsigned n = 0; n < 2; n++) {
		paging_set(TEST + n * PAGE, LEVEL_PAGE, (FRAMES + (3 - n) * PAGE) | PTE_ALL);
		paging_set(ALIAS + n * PAGE, LEVEL_PAGE, (FRAMES + (3 - n) * PAGE) | PTE_ALL);
	}
	crew_muster(boot);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		state.times = places[i].times;
		check_sums(&places[i]);
		check_locks(&places[i]);
		check_neighbours(&places[i]);
	}
}
