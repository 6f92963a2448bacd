/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of a vCPU that translated code touches, by offset from %gs. C sees it
 * as struct context; enter.S and the emitter see the numbers. The two are held
 * together by assertions in vcpu.c.
 *
 * Where the guest's registers live while translated code runs: most in the host
 * register of the same name. The host's rsp stays a stack (below), and rcx is
 * scratch (jrcxz is how we branch without touching flags), so the guest's rsp is
 * in r15 and its rcx in r11. r9 and r10 are scratch too. That leaves the guest's
 * r9, r10, r11 and r15 without a host register: they stay in CTX_GPR. Flags are in
 * the host's flags, vector and x87 registers in the host's.
 *
 * Users' tables change with the address space, and a pointer to them would cost a register, or
 * time at each access. But in translated code the stack is hardly one: it holds the address of
 * a site, on the way to C, and what the kernel puts there for a signal. So there it is
 * just below those tables, wherever they are, and rsp is that pointer. It is so far below that its
 * low six bits say 12, and SHRX by rsp is a shift by the bits of an offset in a page.
 *
 * Tour 6.30: Where the guest's registers live
 */
#ifndef ENGINE_SOFT_CONTEXT_H
#define ENGINE_SOFT_CONTEXT_H

#define CTX_SELF 0x000 /* this very address, for C */
#define CTX_GPR                                                                                    \
	0x008 /* 16 of 8 bytes: current in C; in translated code only those without a host         \
		 register */
#define CTX_RIP	  0x088 /* in C only */
#define CTX_PAGE  0x090 /* virtual address of the page that the code runs in */
#define CTX_ARITH 0x098 /* in C: CF PF AF ZF SF OF, as in RFLAGS */
#define CTX_STEP                                                                                   \
	0x0a0 /* 4 of 8 bytes: what a string instruction of 1 << n bytes adds to its pointers */
#define CTX_BASE      0x0c0 /* 6 of 8 bytes: segment bases: ES CS SS DS FS GS */
#define CTX_STACKUSER 0x0f0 /* the host's rsp in translated code: STACK_BELOW the user's tables */
#define CTX_JUMPSTUB  0x0f8 /* address of enter.S: soft_jump_stub */
#define CTX_JUMPMASK                                                                               \
	0x100 /* bits that index the jump cache; 0: leave at the next jump, somebody wants us */
#define CTX_POLL    0x108 /* 4 bytes, not 0: leave at the next backward jump */
#define CTX_INTFLAG 0x10c /* 1 byte: RFLAGS.IF */
#define CTX_EVENT   0x110 /* address of enter.S: soft_event_stub */
#define CTX_ADDRESS 0x118 /* scratch r9 at an event: a virtual address, mostly */
#define CTX_ADDEND                                                                                 \
	0x120 /* scratch r10 at the end of an event: what turns it into a host address             \
	       */
#define CTX_TARGET    0x128 /* where a call goes while its return address is pushed */
#define CTX_CONTINUE  0x130
#define CTX_LOW	      0x138 /* 3 of 8 bytes: masks of 4, 5 and 6 low bits */
#define CTX_SPARE     0x150 /* 2 of 8 bytes: the emitter's */
#define CTX_AUX	      0x160 /* IA32_TSC_AUX */
#define CTX_CHECKBASE 0x168 /* minus the host address of RAM: check.c */
#define CTX_CHECKMASK 0x170 /* bits that no offset into RAM has */
#define CTX_ALIGN                                                                                  \
	0x178 /* 3 of 8 bytes: all bits of a page's address, and the low ones that are 0 in one of \
		 2, 4, 8 bytes */
#define CTX_USER  0x190 /* where the tables of VIEW_USER are */
#define CTX_STACK 0x198 /* the host's rsp in C */
#define CTX_RETURNMASK                                                                             \
	0x1a0 /* bits of where on the stack a return address is that index the return cache; 0:    \
		 leave at the next return, somebody wants us */
#define CTX_CALLMASK  0x1a8 /* the same for calls, which do not look */
#define CTX_ARITHMASK 0x1b0 /* what FLAGS_ARITH says, for PEXT and PDEP */
#define CTX_SLOT      0x1b8 /* CTX_SLOTS of 8 bytes: what leaders leave to followers: group.c */
#define CTX_SLOTS     8
#define CTX_END	      0x1f8

#define STACK_BELOW 52

/* SITE_JUMP of translate.h, for enter.S. */
#define ENTER_SITE_JUMP 4

#ifndef __ASSEMBLER__
#include "host/types.h"

/* Arithmetic flags, those that live in the host's while translated code runs. */
#define FLAGS_ARITH 0x8d5u

/*
 * A TLB: see enum view for which there are. Direct-mapped. A tag is minus the
 * address of the page, so that adding an address leaves the offset; TAG_NONE never fits.
 * What is read and what is written is remembered apart: a copy between two pages with the same
 * index must not push out one for the other at each step. It grows with what is asked of it.
 */
#define TLB_LEAST 1024
#define TLB_MOST  8192
#define TAG_NONE  (1ull << 62) /* minus a non-canonical address, page-aligned */

#define TLB_GLOBAL    1u /* survives a CR3 write */
#define TLB_2M	      2u /* a piece of a larger page */
#define TLB_1G	      4u
#define TLB_4M	      8u
#define TLB_LARGE     (TLB_2M | TLB_1G | TLB_4M)
#define TLB_KEY_SHIFT 4 /* from here on: the page's protection key */

/* TLB_WRITE: only pages already dirty, and without code; TLB_FETCH: for C only. */
enum tlb_kind { TLB_READ, TLB_WRITE, TLB_FETCH, TLB_KINDS };

struct tlb_part {
	u64 tag[TLB_MOST];
	u64 addend[TLB_MOST]; /* host address minus guest-virtual; bits 11..0 are 0 */
	u8 flags[TLB_MOST];   /* TLB_*, and a key; a free entry has none */
};

struct tlb {
	u64 mask;     /* bits of an address that are its index: as many as there are entries */
	u32 replaced; /* entries since it was emptied, or grew */
	struct tlb_part part[TLB_KINDS];
};

static inline unsigned tlb_entries(const struct tlb *tlb)
{
	return tlb->mask / PAGE_SIZE + 1;
}

static inline unsigned tlb_index(const struct tlb *tlb, u64 address)
{
	return (address & tlb->mask) / PAGE_SIZE;
}

/* Where code is for a virtual address. Hashed by soft_jump_index(). */
#define JUMP_ENTRIES 16384

struct jump_cache {
	u64 tag[JUMP_ENTRIES]; /* minus the address; TAG_NONE: free */
	u64 code[JUMP_ENTRIES];
};

/*
 * Where calls return to: see jump.c. The number of an entry is that of its place on the stack, and
 * one more: number 0 is no call's.
 */
#define RETURN_ENTRIES 512
#define RETURN_SHIFT   3 /* places on the stack of 8 bytes */

struct return_cache {
	u64 tag[RETURN_ENTRIES + 1]; /* minus the address, minus 1 */
	u64 code[RETURN_ENTRIES + 1];
};

/*
 * Ways of looking at memory, each with tables of its own. In the last but one RFLAGS.AC is set,
 * under SMAP. Users' are last: there are as many of them as address spaces are remembered.
 */
enum view { VIEW_KERNEL, VIEW_KERNEL_AC, VIEW_USER, VIEWS };
#define KERNEL_VIEWS VIEW_USER

/*
 * Pages of which something may be known: a bit each, which many share, but never one of the lower
 * half of the addresses with one of the upper. What INVLPG names is mostly a program's, and must
 * not look like a piece of the kernel, which is known all the time.
 */
#define NOTES_HALF 4096
struct notes {
	u64 word[2 * NOTES_HALF / 64];
};

/* Entries that are listed. */
#define LOCAL_MAX 200

struct lookup {
	struct jump_cache jump;
	struct return_cache returns;
	struct tlb tlb;
	/* From here on for C only. */
	struct notes jump_pages; /* pages with code in the jump cache */
	u64 version;		 /* counts how often all was forgotten */
	u32 jump_mode;		 /* the mode for which the jump cache is filled */
	bool jump_local;	 /* it has entries for pages that are not global */
	bool global;		 /* the TLB has entries for pages that are */
	u16 keys;		 /* bit n: pages with protection key n may be in the TLB */
	u16 local_count;	 /* more than LOCAL_MAX: they are not listed */
	u16 local[LOCAL_MAX];	 /* entries of the TLB for pages that are not global, and more */
	u64 large_first, large_last; /* what lies in a large page, and is in the TLB, is between */
	u64 large_filter;	     /* bit n: pieces of a large page may be in the TLB,
					(address >> 21) % 64 = n */
} __attribute__((aligned(64)));

static inline unsigned note_of(u64 address)
{
	return address / PAGE_SIZE % NOTES_HALF + (address >> 63) * NOTES_HALF;
}

static inline void notes_set(struct notes *notes, u64 address)
{
	unsigned number = note_of(address);

	notes->word[number / 64] |= 1ull << number % 64;
}

static inline bool notes_have(const struct notes *notes, u64 address)
{
	unsigned number = note_of(address);

	return notes->word[number / 64] >> number % 64 & 1;
}

struct context {
	struct context *self;
	u64 gpr[16];
	u64 rip;
	u64 page;
	u64 arith;
	s64 step[4];
	u64 base[6];
	u64 stack_user;
	const void *jump_stub;
	_Atomic u64 jump_mask;
	_Atomic u32 poll;
	u8 intflag;
	u8 pad[3];
	const void *event;
	u64 address, addend, target;
	const void *resume;
	u64 low[3];
	u64 spare[2];
	u64 aux;
	u64 check_base, check_mask;
	u64 align[3];
	struct lookup *user; /* VIEW_USER's: of this address space */
	void *stack;
	_Atomic u64 return_mask;
	u64 call_mask;
	u64 arith_mask;
	u64 slot[CTX_SLOTS];
	struct lookup kernel[KERNEL_VIEWS];
};
#endif
#endif
