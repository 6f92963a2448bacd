/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the differential tester share.
 *
 * The same instructions run twice: on this machine's own CPU, and on the soft
 * engine. What a program can see afterwards shall be the same. forms.c knows which
 * instructions there are, generate.c makes a sequence of them from a number, named.c
 * has some that once went wrong, native.c and soft_side.c run it, compare.c looks for
 * differences, main.c counts.
 */
#ifndef DIFF_H
#define DIFF_H

#include "host/types.h"

#include <Zydis/Zydis.h>

/*
 * What a sequence finds in memory. Low addresses, so that each is within reach of any
 * other, of absolute addressing and of address-size prefixes; and nothing of the
 * tester's own is near. The holes are there to fault.
 */
#define CODE_BASE  0x10000000ull
#define CODE_PAGES 2u /* then a hole */
#define DATA_BASE  0x20000000ull

enum { DATA_PAGES = 5, ALL_PAGES = CODE_PAGES + DATA_PAGES };

struct page {
	u64 address;
	bool writable, executable;
};

static const struct page pages[ALL_PAGES] = {
	/* Of the code, the second half may change itself. */
	{CODE_BASE, false, true},
	{CODE_BASE + PAGE_SIZE, true, true},
	/* Two in a row, a hole, three in a row of which one is read-only, a hole. */
	{DATA_BASE, true, false},
	{DATA_BASE + 1 * PAGE_SIZE, true, false},
	{DATA_BASE + 3 * PAGE_SIZE, true, false},
	{DATA_BASE + 4 * PAGE_SIZE, false, false},
	{DATA_BASE + 5 * PAGE_SIZE, true, false},
};

/* Vector and x87 state, as far as it is compared: not where the last x87 instruction was. */
struct vectors {
	u16 control, status;
	u8 tags; /* a bit each: not empty */
	u32 mxcsr;
	u8 x87[8][10]; /* st(0) first */
	u8 low[16][16], high[16][16];
	/* AVX-512's: of ZMM0 to ZMM15 the upper halves, ZMM16 to ZMM31, K0 to K7. */
	u8 higher[16][32], upper[16][64];
	u64 mask[8];
};

struct state {
	u64 gpr[16], rip, rflags, fs_base, gs_base;
	struct vectors vectors;
};

/* Vectors of exceptions, and two that no CPU has. */
enum {
	END_ENDLESS = 0x100, /* had to be stopped */
	END_SYSCALL = 0x101, /* went astray, into the kernel */
};

/* How a sequence ended. The last instruction is undefined, so each ends with an exception. */
struct outcome {
	struct state state;
	unsigned vector;
	u32 error;
	u64 cr2; /* after a page fault */
	u8 memory[DATA_PAGES][PAGE_SIZE];
};

/* ------------------------------------------------------------------ forms.c */

enum form_class {
	FORM_INTEGER,
	FORM_STRING,
	FORM_STACK, /* push, pop, enter, leave */
	FORM_BRANCH,
	FORM_X87,
	FORM_MMX,
	FORM_SSE,
	FORM_VEX,
	FORM_EVEX,	 /* all of AVX-512, the VEX instructions on masks, too */
	FORM_PRIVILEGED, /* all of them fault in user mode */
	FORM_CLASSES,
	FORM_SYSTEM, /* not for user mode, or not the same twice: garbage only */
};

/* An opcode with those bits around it that make it another instruction. */
struct form {
	u16 mnemonic;
	u8 class;
	bool vex, evex;
	bool wide, odd;	   /* odd: with a prefix that means nothing here */
	u8 map;		   /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A; 5 and 6 have no other name */
	u8 opcode, prefix; /* 0, 66, F3, F2 */
	u8 length;	   /* VEX.L, EVEX.L'L */
	bool vvvv;	   /* VEX.vvvv names an operand */
	bool b;		   /* EVEX.b: a broadcast; with registers rounding, by L'L, or SAE */
	u8 scale;	   /* of a displacement of 8 bits */
	u8 size;	   /* of a memory operand in EVEX, bytes */
	bool modrm, memory, vsib, lockable, xsave;
	u8 reg, rm; /* FORM_ANY, or part of the opcode */
};

#define FORM_ANY 0xff

struct forms {
	bool compat; /* of 32-bit code; else of 64-bit code */
	bool narrow; /* of 16-bit code, which is compat too */
	struct form *all;
	unsigned count;
	unsigned *class[FORM_CLASSES]; /* indices into all, without the odd ones */
	unsigned class_count[FORM_CLASSES];
	ZydisDecoder decoder;
};

struct forms *forms_new(bool compat, bool narrow);
void forms_free(struct forms *forms);

/* Which class a decoded instruction belongs to. */
enum form_class form_classify(const ZydisDecodedInstruction *insn,
			      const ZydisDecodedOperand *operands);

/* Of XSAVE and all its relatives, XRSTOR included. */
bool form_is_xsave(const ZydisDecodedInstruction *insn);
bool form_is_xrstor(const ZydisDecodedInstruction *insn);

/* ------------------------------------------------------------------ named.c */

/* A sequence that is known by name. */
struct named {
	const char *name, *goes_wrong;
	const u8 *code, *end;
	bool compat; /* 32-bit code; else 64-bit code */
};

extern const struct named named[];
extern const unsigned named_count;

/* ------------------------------------------------------------------ generate.c */

struct random {
	u64 state;
};

static inline u64 random_u64(struct random *random)
{
	u64 z = random->state += 0x9e3779b97f4a7c15ull; /* SplitMix64, by Guy Steele and others */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline u64 random_below(struct random *random, u64 limit)
{
	return random_u64(random) % limit;
}

static inline bool random_percent(struct random *random, unsigned percent)
{
	return random_below(random, 100) < percent;
}

#define ITEMS_MAX   48
#define ITEM_NONE   0xff
#define ITEM_BYTES  15
#define CODE_LENGTH (ITEMS_MAX * ITEM_BYTES)

struct item {
	u8 bytes[ITEM_BYTES];
	u8 length;
	u8 target;		/* the item that it goes to or points at, ITEM_NONE: none */
	u8 into;		/* so many bytes into the target */
	u8 fixup, fixup_length; /* where in bytes that goes, as a distance */
	bool absolute;		/* or as an address: 32-bit code only */
	u32 base;		/* of the segment that it is in */
	u64 address;		/* if target is ITEM_NONE and there is a fixup: what it points at */
	u32 offset;		/* from CODE_BASE; set by layout */
	bool joined;		/* no jump comes here: it needs the item before */
	bool exact;		/* but its own jump goes to such a one */
	bool dropped;
};

/* A word of memory that holds the address of an item. */
struct planted {
	u64 address;
	u8 target;
};

/* A segment of the local descriptor table, for user mode: Intel SDM 3A, "Segment Descriptors". */
struct local {
	u32 base, limit;
	bool code, down; /* data that expands down */
	bool fixed;	 /* not to be written; code: not to be read */
	bool big;	 /* D or B */
};

/* As the architecture numbers segment registers. */
enum { LOCAL_ES, LOCAL_CS, LOCAL_SS, LOCAL_DS, LOCALS };
#define LOCAL_SELECTOR(segment) (((segment) + 1) << 3 | 7)

struct sequence {
	bool compat;	/* 32-bit code: the upper halves of registers are nobody's */
	bool narrow;	/* 16-bit code, which is compat too */
	bool segmented; /* in these; else all is flat */
	struct local local[LOCALS];
	struct state initial;
	struct item items[ITEMS_MAX];
	unsigned count; /* the last is what ends it */
	struct planted planted[ITEMS_MAX];
	unsigned planted_count;
	u32 code_offset, code_length;
	u8 code[CODE_LENGTH];
	u8 memory[DATA_PAGES][PAGE_SIZE];
};

/* What to run: all there is to know of it. */
struct job {
	u64 seed;
	int form;		   /* of one form only, if not negative */
	const struct named *named; /* that sequence, if not NULL */
	u64 drop;		   /* items to leave out, a bit each */
};

void generate(const struct forms *forms, const struct job *job, struct sequence *sequence);

/*
 * CODE_PAGES of noise and instructions of every sort, and registers and memory to begin with in
 * *sequence.
 */
void generate_garbage(const struct forms *forms, u64 seed, struct sequence *sequence, u8 *bytes);

/* The code pages: the sequence, and breakpoints all around it. */
void sequence_code(const struct sequence *sequence, u8 image[CODE_PAGES * PAGE_SIZE]);

/* Where the data pages hold the byte at this address: NULL: nowhere. */
u8 *sequence_memory(u8 memory[DATA_PAGES][PAGE_SIZE], u64 address);

/* ------------------------------------------------------------------ vectors.c: XSAVE images */

/* Where AVX-512's components are. */
struct layout {
	bool avx512; /* the CPU has them */
	u32 mask, higher, upper;
};

struct layout layout_of_cpu(void);

/* Of the standard format; only what is ours is touched. */
void vectors_to_xsave(const struct layout *layout, const struct vectors *vectors, u8 *image);
void vectors_from_xsave(const struct layout *layout, struct vectors *vectors, const u8 *image);

/* ------------------------------------------------------------------ native.c, soft_side.c */

/* Takes over this process: its signals, its low addresses, its system calls. */
void native_init(bool compat);
void native_run(const struct sequence *sequence, struct outcome *outcome);

struct soft_side;
/* Without: WITHOUT_*. Kicked: the engine's signal comes all the time. It lives as long as the
 * process.
 */
struct soft_side *soft_side_new(unsigned without, bool kicked);
/* Warm: once more, with what the engine has kept of the last time. */
void soft_side_run(struct soft_side *side, const struct sequence *sequence, bool warm,
		   struct outcome *outcome);
/* CODE_PAGES of bytes as a kernel, for a few milliseconds. */
void soft_side_garbage(const struct sequence *sequence, const u8 *bytes);

/* ------------------------------------------------------------------ compare.c */

bool outcomes_same(const struct sequence *sequence, const struct outcome *native,
		   const struct outcome *soft);
void sequence_print(const struct sequence *sequence);
void outcomes_print(const struct sequence *sequence, const struct outcome *native,
		    const struct outcome *soft);

#endif
