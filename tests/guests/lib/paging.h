/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page tables, for guests that want more than start.S gave them: 4 GiB mapped to
 * themselves, for the supervisor alone. Addresses from 512 GiB on are free, and a
 * guest does there as it likes, entry by entry.
 */
#ifndef LIB_PAGING_H
#define LIB_PAGING_H

#include "lib/guest.h"

/* Bits of an entry (Intel SDM 3A, "4-Level Paging and 5-Level Paging"). */
#define PTE_PRESENT  (1ull << 0)
#define PTE_WRITE    (1ull << 1)
#define PTE_USER     (1ull << 2)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY    (1ull << 6)
#define PTE_LARGE    (1ull << 7)
#define PTE_GLOBAL   (1ull << 8)
#define PTE_NX	     (1ull << 63)
#define PTE_ADDRESS  0x000ffffffffff000ull

/* Present, writable, for users. */
#define PTE_ALL (PTE_PRESENT | PTE_WRITE | PTE_USER)

#define PAGE 4096ull

/* Levels, with what one entry of them covers. */
enum { LEVEL_PAGE = 1, LEVEL_2M = 2, LEVEL_1G = 3, LEVEL_512G = 4 };

/*
 * The entry of that level for that address, in the tables that the guest began with. What is
 * missing on the way is made, with all rights. Gives up when there is no more room.
 */
u64 *paging_entry(u64 address, unsigned level);

static inline u64 paging_root(void)
{
	u64 cr3;

	asm volatile("mov %%cr3, %0" : "=r"(cr3));
	return cr3;
}

static inline void paging_set_root(u64 cr3)
{
	asm volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
}

static inline void paging_invalidate(u64 address)
{
	asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

/* Set the entry, and see to it that the CPU knows. */
void paging_set(u64 address, unsigned level, u64 entry);

#endif
