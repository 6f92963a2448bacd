/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All CPUs at once, for guests that test what they do to each other. CPU n has APIC
 * id n, on every machine that these guests meet. The first is the one that runs
 * guest_main(); the others sleep until they are given something to do.
 *
 * Only the first one prints and checks: the others leave what they saw in memory.
 * A guest that uses this has no ap_main() of its own.
 */
#ifndef LIB_CREW_H
#define LIB_CREW_H

#include "lib/cpus.h"

#define CREW_MOST   8
#define VECTOR_CREW 0x21 /* wakes them */

/* Start them all, with the first one's interrupt table. How many CPUs there are now. */
unsigned crew_muster(const struct boot *boot);

/*
 * How often to try what may go wrong: the option rounds=N, or what the guest thinks fit for two
 * CPUs. With more it is a part of that: each waits for each, and there may be fewer of the host's.
 */
unsigned crew_rounds(const struct boot *boot, unsigned fit);

/* Which CPU this is; asks no hypervisor. */
unsigned crew_self(void);

/* Have that CPU, not the first, do this. It takes interrupts all the while. */
void crew_give(unsigned cpu, void (*work)(void));

/* Wait until it has done it. Gives up if that takes for ever. */
void crew_wait(unsigned cpu);

/* The same for all but the first. */
void crew_give_all(void (*work)(void));
void crew_wait_all(void);

/*
 * All but the first count what they do, each in its place: wait until it was done twice since we
 * looked, once at least from its beginning. False: one of them does not go on.
 */
bool crew_goes_on(const volatile u64 progress[CREW_MOST]);

/* Intel SDM 3A, "Serializing Instructions". */
static inline void serialize(void)
{
	u32 a = 0, c = 0;

	asm volatile("cpuid" : "+a"(a), "+c"(c) : : "ebx", "edx", "memory");
}

#endif
