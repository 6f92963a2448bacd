/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Translated code: what a block is, where it lives, how it reports to C. Between
 * translate*.c, which write it, cache.c, which keeps it, and run.c, which serves it.
 *
 * Tour 6.200: What a block is
 */
#ifndef ENGINE_SOFT_TRANSLATE_H
#define ENGINE_SOFT_TRANSLATE_H

#include "engine/soft/emit.h"
#include "engine/soft/internal.h"

/* Of a block that runs one instruction and comes back: after STI and MOV SS. Beside MODE_*. */
#define MODE_SINGLE 0x200u
/* Of a block whose one instruction crosses into the next page. */
#define MODE_CROSSING 0x400u

/*
 * What an event is about. Where not said otherwise translated code goes on behind the site.
 *
 * Tour 6.201: What translated code asks of C
 */
enum site_kind {
	SITE_LOAD,    /* r9: address; on return r10 is the addend. */
	SITE_STORE,   /* the same for writing; special cases go on SITE_SPECIAL bytes later */
	SITE_COMMIT,  /* the special store was done into the bounce buffer, or onto code */
	SITE_LINK,    /* arg: struct link *: a jump inside the page, not linked so far */
	SITE_JUMP,    /* r9: where to, as an offset in CS: not in the jump cache. arg: what undoes
			 its use of rsp */
	SITE_GO,      /* go on at `offset`, through C */
	SITE_INSN,    /* arg: struct insn * */
	SITE_RAISE,   /* arg: a vector; its error code is 0 */
	SITE_TRAP,    /* the host trapped: run.c's own */
	SITE_CHECK,   /* the checking build: r9 + r10 seems to be outside RAM */
	SITE_SEGMENT, /* r9: an offset in the segment that arg says; on return a linear address */
};

#define SITE_READS   1u	 /* a store that reads as well */
#define SITE_STACK   2u	 /* through rsp or rbp: non-canonical is #SS */
#define SITE_KEEP    4u	 /* a commit that never leaves: the instruction is not over */
#define SITE_ALIGNED 16u /* misaligned is #GP, and comes before what the page has to say */
#define SITE_LOCKED  64u /* atomic, also where it lies in two pages */
#define SITE_WAITS   32u /* a pending x87 exception comes before even that */
#define SITE_LAST    8u	 /* an instruction behind which the block has nothing */

/*
 * Behind each call to soft_event_stub.
 *
 * Tour 6.202
 */
struct site {
	u8 kind;
	u8 flags;
	u16 size;	/* of the access, bytes */
	int32_t offset; /* of the guest's instruction from ctx.page; of the next one for COMMIT */
	u64 arg;
} __attribute__((packed));

/*
 * The arg of a SITE_LOAD or SITE_STORE whose operand has a mask, if it is not 0: bytes that are
 * masked off cause no fault, and are not touched.
 */
struct masked {
	bool is : 1;
	bool packed : 1; /* those that are wanted are one behind the other */
	bool whole : 1;	 /* all of it must be there: those that are masked off fault, too */
	u8 reg;		 /* K1 to K7 */
	u8 bits;	 /* so many of it count */
	u8 size;	 /* of an element in memory, bytes */
	u8 elements;	 /* in memory: several bits may be about one */
	u8 segment; /* of a SITE_SEGMENT, which has the rest as well: ES..GS, and SEGMENT_WRITES */
	u8 unused[2];
};
#define SEGMENT_NUMBER 7u
#define SEGMENT_WRITES 8u
#define SEGMENT_CACHE  16u /* cache maintenance: code that may not be read will do */

_Static_assert(sizeof(struct masked) == 8, "a site's arg");

/* evex.c: which bytes of its operand an instruction touches, a bit each, as K1 to K7 are now. */
u64 evex_touched(struct vcpu *vcpu, const struct site *site);
bool evex_wants_whole(const struct site *site);

/* After a SITE_STORE there is a jump back, for the ordinary case. */
#define SITE_SPECIAL 5

struct block;

/* A direct jump from one block to another of the same page. */
struct link {
	u8 *distance;	   /* where the jump's 32 bits are, as we write them */
	u8 *stub;	   /* where it goes while it is not linked: calls SITE_LINK */
	struct block *to;  /* NULL: not linked */
	struct link *next; /* in to->incoming */
};

#define JUMP_OPCODE 0xe9 /* before a distance of 32 bits */

/* Of which instruction is the host code from here on. */
struct mark {
	u32 host;  /* from the block's code */
	u16 guest; /* from the block's first byte */
};

/*
 * Basic blocks, as far as one falls through to the next, are translated together: a unit. Each is a
 * block of its own, to be found, linked and dropped; what describes the unit's host code is with
 * the first of them.
 *
 * Tour 6.203: A block
 */
struct block {
	u64 gpa;  /* of its first byte */
	u64 gpa2; /* of its second page, when its only instruction crosses into it; else 0 */
	u32 mode;
	u16 length; /* guest bytes */
	u16 offset; /* in its page */
	u16 insns, marks;
	bool crosses; /* no code: its first instruction crosses into the next page */
	u8 *code;     /* as it runs. Wants its linear address in r9 */
	u8 *inner;    /* for jumps inside the page */
	u32 size;     /* host bytes of the unit; 0: not the first of it */
	u8 *aside;    /* what of it is rarely run, elsewhere in the cache; the same of it */
	u32 aside_size;
	struct mark *mark;
	struct block *hash_next;
	struct block *page_next[2];
	struct link *incoming;
	/*
	 * For those that come here without a link, by falling through or by a jump in the unit:
	 * when the block is dropped, what is at `inner` becomes a jump, and this is its link. No
	 * stub: there are none.
	 */
	struct link entry;
};

/* A page of guest RAM from which a vCPU has code. */
struct code_page {
	u64 gpa;
	u64 chunks;	   /* bit n: of its 64 bytes number n */
	_Atomic u64 shown; /* to other threads: the same; all while a block is made */
	struct block *blocks;
	enum bare_code bare; /* FINE, DEPENDS: it may be in a cell */
	struct code_page *free_next;
};

#define CACHE_BUCKETS 65536

struct cache {
	u8 *write, *run; /* two mappings of one file */
	u64 size, used;
	u64 aside, aside_used; /* from there on is what is rarely run; the size: nothing is */
	u64 epoch;	       /* counts invalidations and flushes */
	struct cache *next_spare;
	/* Blocks, marks, pages and instructions for C: given back all at once. */
	u8 *arena;
	u64 arena_size, arena_used;
	struct block **order; /* by code address */
	u32 order_count, order_room;
	struct code_page *free_pages; /* in the arena */
	/* For each page of each piece of RAM; NULL: no code of it. */
	_Atomic(struct code_page *) *pages[RAM_PIECES];
	u64 page_count[RAM_PIECES];
	struct block *bucket[CACHE_BUCKETS];
};

/* Most host bytes of one unit, and most of the guest's instructions. */
#define BLOCK_ROOM  65536
#define BLOCK_INSNS 64
#define BLOCK_MARKS 8 /* for one instruction */

static inline unsigned soft_jump_index(u64 linear)
{
	return (linear + (linear >> 12)) & (JUMP_ENTRIES - 1);
}

void soft_jump_stub(void);
extern const struct site soft_jump_site; /* its own */

/*
 * A free entry matches no address that gets there by its hash. To entry 0 all of them get while
 * somebody wants us, and each tag there is that of some address: so it keeps its tag, and is closed
 * by its code, which is an event as well. Any thread may do that, however late it is: being one
 * store, it leaves nothing half done between two of ours.
 */
static inline void jump_cache_close(struct jump_cache *cache)
{
	__atomic_store_n(&cache->code[0], (u64)soft_jump_stub, __ATOMIC_SEQ_CST);
}

/* jump.c */
void jump_cache_flush(struct lookup *lookup);
void jump_caches_flush(struct vcpu *vcpu);
/* From now on, what jumps there goes to that block, which must have been looked up just now. */
void jump_remember(struct vcpu *vcpu, u64 linear, const struct block *block);
/* The code there, if it is remembered. */
const void *jump_find(const struct vcpu *vcpu, u64 linear);
void jump_forget(struct vcpu *vcpu, u64 linear);

/* cache.c. NULL: none. */
struct block *cache_find(struct vcpu *vcpu, u64 gpa, u64 gpa2, u32 mode);
void *cache_alloc(struct cache *cache, u64 bytes); /* zeroed; reserve first */
/* Room for one more block, after emptying all if need be. */
void cache_reserve(struct vcpu *vcpu);
/* The first of a unit; another one of it. */
void cache_add(struct vcpu *vcpu, struct block *block);
void cache_add_part(struct vcpu *vcpu, struct block *block);
void cache_link(struct cache *cache, struct link *link, struct block *to);
struct block *cache_block_at(const struct cache *cache, const u8 *pc);
/* A block is going to be made from that page: nobody may write it past us any more. */
void cache_protect(struct vcpu *vcpu, u64 gpa);

/* translate.c: the block that begins there, in RAM; gpa2: its second page, where it crosses. The
 * linear address is only a name: others may be the same block's. */
struct block *translate(struct vcpu *vcpu, u64 linear, u64 gpa, u64 gpa2, u32 mode);

/* perf_map.c: there is new code of that block, which is at that address now. */
void perf_map_add(struct vcpu *vcpu, u64 linear, u32 mode, const u8 *code, u32 size);

/* mmu.c: events */
const void *mmu_segment(struct vcpu *vcpu, const struct site *site);
const void *mmu_load(struct vcpu *vcpu,
		     const struct site *site); /* NULL: a fault, recorded, or: alone (watch.h) */
const void *mmu_store(struct vcpu *vcpu, const struct site *site); /* the same */
bool mmu_commit(struct vcpu *vcpu);				   /* true: code was overwritten */
void mmu_forget_writable(struct vcpu *vcpu, u64 gpa);

/*
 * check.c: what the checking build asks before an access. False: it is outside the guest, and the
 * machine was stopped.
 */
void check_prepare(struct vcpu *vcpu);
bool check_access(struct vcpu *vcpu, const struct site *site);

/* enter.S */
void soft_enter(const void *code);
void soft_event_stub(void);
void soft_trap_stub(void);
/* run.c, called from there */
const void *soft_event(struct vcpu *vcpu, const struct site *site);

static inline u64 vcpu_linear(const struct vcpu *vcpu, u64 rip)
{
	u64 linear = rip + vcpu->ctx.base[CS];

	return vcpu->mode & MODE_CODE ? (u32)linear : linear;
}

static inline u64 vcpu_rip(const struct vcpu *vcpu, u64 linear)
{
	u64 rip = linear - vcpu->ctx.base[CS];

	return vcpu->mode & MODE_CODE ? (u32)rip : rip;
}

#endif
