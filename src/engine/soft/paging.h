/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the memory management unit's files share: mmu.c, which accesses memory, walk.c,
 * which reads the guest's page tables, and tlb.c, which forgets what they said. Nobody
 * else wants it; everybody else's questions are in internal.h.
 *
 * Tour 6.420: What the MMU's files share
 */
#ifndef ENGINE_SOFT_PAGING_H
#define ENGINE_SOFT_PAGING_H

#include "engine/soft/internal.h"

/* Intel SDM 3A, "4-Level Paging": bits of an entry, which those of other modes have, too. */
#define PTE_PRESENT   (1ull << 0)
#define PTE_WRITE     (1ull << 1)
#define PTE_USER      (1ull << 2)
#define PTE_ACCESSED  (1ull << 5)
#define PTE_DIRTY     (1ull << 6)
#define PTE_LARGE     (1ull << 7)
#define PTE_GLOBAL    (1ull << 8)
#define PTE_NX	      (1ull << 63)
#define PTE_KEY	      (15ull << 59)
#define CR3_PCID      0xfffu /* with CR4.PCIDE */
#define PTE_KEY_SHIFT 59
#define PTE_ADDRESS   0x000ffffffffff000ull

/* What a walk found. */
struct mapping {
	u64 gpa;
	/* PTE_WRITE, PTE_USER: allowed by all levels; PTE_NX: forbidden by any; PTE_KEY: the
	 * leaf's, where keys count. */
	u64 rights;
	u64 leaf;
	u8 flags;
};

/*
 * A tag that no address can match in this entry. The page that it would match is not canonical, and
 * has another index, and so have TLB_REACH pages before (from which an access, or a string, may
 * reach over).
 */
#define TLB_REACH (TLB_LEAST / 4)

static inline u64 tag_none(unsigned index)
{
	u64 other = index % TLB_LEAST < TLB_LEAST / 2 ? TLB_LEAST - TLB_REACH : TLB_REACH;

	return -((1ull << 62) + other * PAGE_SIZE);
}

/* ------------------------------------------------------------------ walk.c */

/* As the processor would, accessed and dirty bits included. False: a page fault, recorded. */
bool paging_walk(struct vcpu *vcpu, u64 address, enum access access, struct mapping *found);
/* What is there, without a trace, if all tables on the way were accessed before. False: nothing. */
bool paging_look(const struct vcpu *vcpu, u64 address, struct mapping *found);
/* Where it is, as a debugger asks: whoever may, and without a trace. False: nowhere. */
bool paging_peek(const struct vcpu *vcpu, u64 address, u64 *gpa);
/* May this access be done with these rights? Only of pages that are present. */
bool paging_allowed(const struct vcpu *vcpu, enum access access, u64 rights);

/*
 * PAE's four pointers, from the table that `cr3` points to. False, and nothing has changed: they
 * have reserved bits, which is #GP (not raised).
 */
bool paging_load_pointers(struct vcpu *vcpu, u64 cr3);

/* ------------------------------------------------------------------ tlb.c */

/* PKRU changed in these bits: what was allowed by them may not be any more, or the reverse. */
void tlb_flush_keys(struct vcpu *vcpu, u32 changed);
/* An entry for that address, of that kind, with these flags. */
void tlb_fill(struct lookup *lookup, enum tlb_kind kind, u64 address, u64 addend, u8 flags);
/* There is none. */
void tlb_forget(struct lookup *lookup, enum tlb_kind kind, u64 address);
/* Make room, if so many entries had to give way that it pays. What was an index is none any more.
 */
void tlb_grow(struct lookup *lookup);

#endif
