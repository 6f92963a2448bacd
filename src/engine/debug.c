/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What engines have in common when they are debugged: see debug.h. That is a guest's page tables,
 * read as a debugger reads them, and how long it is waited for vCPUs.
 *
 * A processor's walk sets bits and an engine's may fault, so this is one more, of every kind of
 * tables there is (Intel SDM 3A, "Paging"). Rights do not matter, and neither do reserved bits:
 * who debugs wants to see what is there.
 *
 * Tour 8.20
 */
#include "engine/debug.h"

#include "engine/engine.h"

#include <asm/processor-flags.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define EFER_LMA (1u << 10)

#define ENTRY_PRESENT 1u
#define ENTRY_LARGE   (1u << 7)
#define ENTRY_FRAME   0x000ffffffffff000ull

/* PSE-36: bits 39..32 of a page of 4 MiB are in bits 20..13 of its entry. */
#define PSE36_BITS(entry) (((entry) >> 13 & 0xff) << 32)

struct paging {
	unsigned levels;
	unsigned index_bits; /* of an address, that choose an entry */
	unsigned entry_size; /* bytes */
	unsigned large;	     /* at this level (1 is the lowest) and below a page may be large */
};

static struct paging paging_of(const struct cpu_state *state)
{
	if (state->efer & EFER_LMA)
		return (struct paging){state->cr4 & X86_CR4_LA57 ? 5 : 4, 9, 8, 3};
	if (state->cr4 & X86_CR4_PAE)
		return (struct paging){3, 9, 8, 2};
	return (struct paging){2, 10, 4, state->cr4 & X86_CR4_PSE ? 2 : 1};
}

/*
 * What a debugger's address means, in whatever mode the guest is just now.
 *
 * Tour 8.21
 */
int debug_walk(const struct memory *memory, const struct cpu_state *state, u64 address, u64 *gpa)
{
	const struct paging paging = paging_of(state);
	u64 table = state->cr3 & ENTRY_FRAME;

	if (!(state->efer & EFER_LMA))
		address = (u32)address;
	*gpa = address;
	if (!(state->cr0 & X86_CR0_PG))
		return 0;
	/* The four entries at the top of PAE's tables are not in a page of their own. */
	if (paging.levels == 3)
		table = state->cr3 & ~0x1full;
	for (unsigned level = paging.levels; level; level--) {
		const unsigned shift = 12 + (level - 1) * paging.index_bits;
		const u64 index = address >> shift & ((1u << paging.index_bits) - 1);
		const void *at =
			memory_at(memory, table + index * paging.entry_size, paging.entry_size);
		const u64 within = (1ull << shift) - 1;
		u64 entry = 0;

		if (!at)
			return -EFAULT;
		memcpy(&entry, at, paging.entry_size);
		if (!(entry & ENTRY_PRESENT))
			return -EFAULT;
		table = entry & ENTRY_FRAME;
		if (level > 1 && level <= paging.large && entry & ENTRY_LARGE) {
			table &= ~within;
			if (paging.entry_size == 4)
				table |= PSE36_BITS(entry);
		}
		if (level == 1 || (level <= paging.large && entry & ENTRY_LARGE)) {
			*gpa = table | (address & within);
			return 0;
		}
	}
	return -EFAULT;
}

bool debug_wait(struct debugger *debugger, pthread_cond_t *changed, pthread_mutex_t *lock)
{
	struct timespec end;
	bool more;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += DEBUG_PATIENCE_MS * 1000000l;
	if (end.tv_nsec >= 1000000000l) {
		end.tv_nsec -= 1000000000l;
		end.tv_sec++;
	}
	if (pthread_cond_clockwait(changed, lock, CLOCK_MONOTONIC, &end) != ETIMEDOUT)
		return true;
	pthread_mutex_unlock(lock);
	more = debugger->waiting(debugger);
	pthread_mutex_lock(lock);
	return more;
}
