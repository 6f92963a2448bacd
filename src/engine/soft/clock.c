/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time: what a tick of the host's TSC is worth, and the clock that guests read
 * without asking us.
 *
 * The guest's TSC is the host's, plus what the guest wrote to IA32_TSC_ADJUST. Its
 * frequency is measured, against the clock by which the guest will be judged:
 * CLOCK_MONOTONIC, not the crystal that CPUID may speak of, because the host's own time
 * is steered by NTP and the like. kvmclock gives the guest that frequency and the moment
 * from which to count; all vCPUs get the same, once, and so never disagree.
 *
 * Callers: soft.c when the engine opens, msr.c, lapic.c.
 *
 * Tour 6.610: What a tick is worth
 */
#include "engine/soft/internal.h"

#include <asm/kvm_para.h>
#include <time.h>
#include <x86intrin.h>

#define NS_PER_SECOND 1000000000ull

/*
 * The measurement ends when the two ends of it are known well enough: 1 part in 50,000 is
 * 20 ppm, a millisecond in 50 s, at the very worst. The usual host gets there in the least
 * time; one that has no vDSO for its clock needs more, and not for ever.
 */
#define MEASURE_PRECISION 50000u
#define MEASURE_MIN_NS	  5000000u
#define MEASURE_MAX_NS	  200000000u
#define MEASURE_ATTEMPTS  20

/* One moment, seen on both clocks. `width`: ticks within which it lies. */
struct moment {
	u64 tsc, ns, width;
};

static u64 to_ns(const struct timespec *time)
{
	return time->tv_sec * NS_PER_SECOND + time->tv_nsec;
}

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return to_ns(&now);
}

/*
 * The tightest of several attempts: the others were interrupted, or missed the cache.
 *
 * Tour 6.611: What time is it, exactly?
 */
static struct moment look(void)
{
	struct moment best = {.width = UINT64_MAX};

	for (int i = 0; i < MEASURE_ATTEMPTS; i++) {
		u64 before = clock_tsc();
		u64 ns = now_ns();
		u64 width = clock_tsc() - before;

		if (width < best.width)
			best = (struct moment){before + width / 2, ns, width};
	}
	return best;
}

/*
 * value * multiplier / divisor, or the largest number there is if that is more. By hand, because
 * the compiler calls a function for it, and nobody promises which registers that uses.
 */
static u64 scale(u64 value, u64 multiplier, u64 divisor)
{
	unsigned __int128 product = (unsigned __int128)value * multiplier;
	u64 high = product >> 64, low = product, quotient;

	if (high >= divisor)
		return UINT64_MAX;
	__asm__("divq %[divisor]"
		: "=a"(quotient), "+d"(high)
		: "a"(low), [divisor] "rm"(divisor)
		: "cc");
	return quotient;
}

u64 clock_tsc(void)
{
	return __rdtsc();
}

u64 clock_tsc_to_ns(const struct soft *soft, u64 ticks)
{
	return scale(ticks, NS_PER_SECOND, soft->tsc_hz);
}

u64 clock_ns_to_tsc(const struct soft *soft, u64 ns)
{
	return scale(ns, soft->tsc_hz, NS_PER_SECOND);
}

void clock_measure(struct soft *soft)
{
	const struct timespec nap = {.tv_nsec = MEASURE_MIN_NS};
	struct moment start = look(), end;

	do {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
		end = look();
	} while ((end.tsc - start.tsc) / MEASURE_PRECISION < (start.width + end.width) / 2 &&
		 end.ns - start.ns < MEASURE_MAX_NS);
	soft->tsc_hz = scale(end.tsc - start.tsc, NS_PER_SECOND, end.ns - start.ns);
	soft->tsc_start = end.tsc;
}

/*
 * What a guest finds in its memory: Linux, Documentation/virt/kvm/x86/msr.rst. The version is odd
 * while the rest is being written, and another one afterwards.
 */
struct system_time {
	u32 version;
	u32 pad;
	u64 tsc_timestamp;
	u64 ns; /* at that timestamp */
	u32 multiplier;
	int8_t shift;
	u8 flags;
	u8 pad2[2];
};
_Static_assert(sizeof(struct system_time) == 32, "as the ABI has it");
#define SYSTEM_TIME_STABLE 1u /* the same for all vCPUs */
#define SYSTEM_TIME_ENABLE 1u /* in the MSR; the rest is the address */

struct wall_clock {
	u32 version;
	u32 seconds, ns; /* since the epoch, when the system time was 0 */
};

/*
 * Guest-physical memory to write to, or NULL. KVM wants four bytes' alignment and RAM. A structure
 * may lie across two pages, which are neighbours here too if they are of the same RAM.
 */
static u8 *published(struct vcpu *vcpu, u64 gpa, u32 length)
{
	u8 *first = ram_at(vcpu->soft, gpa), *last = ram_at(vcpu->soft, gpa + length - 1);

	if (gpa % sizeof(u32) || !first || !last || last != first + length - 1)
		return NULL;
	return first;
}

/*
 * An even version, before; odd while it lasts. Aligned, so that nobody sees half of one. What a
 * guest had there is of no interest but for this one bit.
 */
static u32 begin(u8 *where)
{
	_Atomic u32 *version = (_Atomic u32 *)(void *)where;
	u32 odd = atomic_load_explicit(version, memory_order_relaxed) | 1;

	atomic_store(version, odd);
	return odd;
}

static void end(struct vcpu *vcpu, u8 *where, u32 odd, u64 gpa, u32 length)
{
	atomic_store((_Atomic u32 *)(void *)where, odd + 1);
	/* It may be all sorts of memory, as far as the guest is concerned; code too. */
	cache_written(vcpu, gpa, length);
}

/*
 * kvmclock: a page of the guest's with a moment, by both clocks, and how long a tick is. From
 * then on the guest reads the TSC and does the sum by itself; no clock could be cheaper.
 *
 * Tour 6.612: A clock that is never asked
 */
void clock_publish_system_time(struct vcpu *vcpu)
{
	const struct soft *soft = vcpu->soft;
	u64 hz = soft->tsc_hz, gpa = vcpu->kvm_system_time & ~(u64)SYSTEM_TIME_ENABLE;
	struct system_time time = {
		.tsc_timestamp = soft->tsc_start + vcpu->tsc_adjust,
		.flags = SYSTEM_TIME_STABLE,
	};
	u8 *where;
	u32 odd;

	if (!(vcpu->kvm_system_time & SYSTEM_TIME_ENABLE))
		return;
	where = published(vcpu, gpa, sizeof(time));
	if (!where)
		return;
	/* ns = ((ticks << shift) * multiplier) >> 32: the multiplier must be below 1. */
	while (hz <= NS_PER_SECOND) {
		hz <<= 1;
		time.shift++;
	}
	time.multiplier = scale(NS_PER_SECOND, 1ull << 32, hz);

	odd = begin(where);
	__builtin_memcpy(where + 8, &time.tsc_timestamp, 8);
	__builtin_memcpy(where + 16, &time.ns, 8);
	__builtin_memcpy(where + 24, &time.multiplier, 8);
	end(vcpu, where, odd, gpa, sizeof(time));
}

void clock_publish_wall_clock(struct vcpu *vcpu)
{
	u8 *where = published(vcpu, vcpu->kvm_wall_clock, sizeof(struct wall_clock));
	struct timespec now;
	u64 ns;
	u32 odd, part;

	if (!where)
		return;
	vectors_save(vcpu);
	clock_gettime(CLOCK_REALTIME, &now);
	ns = to_ns(&now) - clock_tsc_to_ns(vcpu->soft, clock_tsc() - vcpu->soft->tsc_start);

	odd = begin(where);
	part = ns / NS_PER_SECOND;
	__builtin_memcpy(where + offsetof(struct wall_clock, seconds), &part, sizeof(part));
	part = ns % NS_PER_SECOND;
	__builtin_memcpy(where + offsetof(struct wall_clock, ns), &part, sizeof(part));
	end(vcpu, where, odd, vcpu->kvm_wall_clock, sizeof(struct wall_clock));
}
