/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding entries of page tables, and making the tables in between.
 */
#include "lib/paging.h"

#define TABLES	128
#define ENTRIES 512

extern u64 page_tables[]; /* in start.S */

static struct {
	u64 table[TABLES][ENTRIES] __attribute__((aligned(PAGE)));
	unsigned used;
} pool;

u64 *paging_entry(u64 address, unsigned level)
{
	u64 *table = page_tables, *entry;

	for (unsigned at = LEVEL_512G;; at--) {
		entry = &table[address >> (12 + 9 * (at - 1)) & (ENTRIES - 1)];
		if (at == level)
			return entry;
		if (!(*entry & PTE_PRESENT) || *entry & PTE_LARGE) {
			if (pool.used == TABLES)
				give_up("there is room for page tables");
			*entry = (u64)pool.table[pool.used++] | PTE_ALL;
		}
		table = (u64 *)(*entry & PTE_ADDRESS);
	}
}

void paging_set(u64 address, unsigned level, u64 entry)
{
	*paging_entry(address, level) = entry;
	paging_invalidate(address);
}
