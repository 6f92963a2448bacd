/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of the translator: what its files share while one block is made.
 * Nobody else includes this, but a test; from outside there is translate().
 *
 *   translate.c   the block: instruction by instruction, and what goes behind its end
 *   operand.c     memory operands
 *   group.c       which of them are neighbours
 *   pass.c        instructions that pass, with other registers
 *   evex.c        those of them that are AVX-512's
 *   rewrite.c     instructions that are written anew
 *   string_inline.c   strings that are short
 *   flow.c        jumps, calls, returns
 *   unit.c        the blocks that a unit is made of
 *   describe.c    instructions that C executes
 *   syscall_inline.c  those of them that go from programs to the kernel and back
 *   system_inline.c   those of them that C would, and need not
 *
 * A put_*() that returns bool returns false, with nothing put, for what it does not know: that is
 * #UD to the guest.
 *
 * Tour 6.210: Inside the translator
 */
#ifndef ENGINE_SOFT_TRANSLATION_H
#define ENGINE_SOFT_TRANSLATION_H

#include "engine/soft/forms.h"
#include "engine/soft/translate.h"
#include "engine/soft/tuning.h"

#include <stddef.h>

#define LATE_MAX   (BLOCK_INSNS * 8)
#define MARKS_MAX  (BLOCK_INSNS * BLOCK_MARKS)
#define NOT_A_HOME NO_REGISTER
#define NO_SEGMENT 0xff

/* What goes behind the unit's end. */
struct late {
	enum {
		LATE_ACCESS,
		LATE_LEADER, /* of a group: its copy */
		LATE_LINK,   /* a jump inside the page */
		LATE_LEAVE,  /* a jump to another page */
		LATE_GO,     /* go on at `target`, through C */
		LATE_CALL,   /* the rest of a call, behind which its return point is */
		LATE_RETURN, /* that is not in the return cache */
	} kind;
	bool write;
	u8 flags;
	u16 size;
	bool direct;	 /* of a call: to `target`, not where CTX_TARGET says */
	u64 masked;	 /* struct masked, as a number */
	u8 *jump;	 /* the distance of the jump that leads here */
	u8 *begin, *end; /* the instruction itself, for accesses */
	int32_t offset, next, target;
	unsigned gpr; /* of a call: that it goes through; NO_REGISTER: none */
	s64 undo;
	unsigned leader; /* the instruction's number, in t->decoded */
	enum view view;
};

/* Accesses through the same registers: group.c. */
struct group {
	u16 base, index; /* values: see group.c */
	u8 scale;
	bool write;  /* one of them does */
	bool worth;  /* it has followers, and a slot */
	bool stored; /* the leader leaves the addend in the slot */
	bool live;   /* the leader has put its probe: followers may rely on it */
	u8 slot;
	unsigned leader, last; /* instructions */
	unsigned members;
	s64 low, high; /* the bytes, relative to those registers; high is behind the last */
	s64 at;	       /* where the leader's begin */
};

/* Most accesses of an instruction that may be in groups: PUSH with memory has as many. */
#define DECODED_ACCESSES 2

/* An instruction, before anything is put for it. */
struct decoded {
	ZyanStatus status;
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	struct form form;
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	u8 length; /* of what was looked at, if it could not be decoded */
	int32_t offset, next;
	struct decoded_access {
		struct group *group; /* NULL: in none */
		unsigned size;
		bool write;
	} access[DECODED_ACCESSES];
	unsigned copy_begin, copy_end; /* instructions that are copied with it, where it leads */
	u8 *plain;		       /* where that copy of it is; NULL: nowhere yet */
	u8 *behind;		       /* where the next one begins */
};

struct translation {
	struct vcpu *vcpu;
	struct emit e;
	struct block *block; /* the first of the unit */
	struct block *part;  /* the one that is being made */
	unsigned parts;	     /* all of them, and that: by where they are */
	struct block *all[BLOCK_INSNS];
	u64 wanted[PAGE_SIZE / 64]; /* bits: offsets ahead to which the unit jumps */
	u8 *landing; /* as it runs: code before the next part that makes r9 its page; or NULL */
	bool leads;  /* the next instruction begins a part */
	bool loops;  /* the unit jumps to its first block, without a link */
	u64 linear;  /* for perf_map_add() alone */
	u32 mode;
	bool wide;  /* 64-bit mode */
	bool flat;  /* or MODE_FLAT: no segment but FS and GS matters */
	u8 segment; /* in which r9 is an offset; NO_SEGMENT: it is a linear address */
	u64 masked; /* of that operand: struct masked, as a number */
	bool wraps; /* that may be near the end of 32 bits */
	enum view view;
	bool user;			/* the view is VIEW_USER */
	u32 lookup, tlb, jump, returns; /* the view's, from the context, or, of users, from rsp */
	const u8 *bytes;		/* of this instruction */
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	int32_t offset, next; /* of this instruction and the one behind, from ctx.page */
	bool ended;
	const struct group *held; /* whose addend is in r10 */
	bool plain;		  /* a copy is being made in which there are no groups */
	unsigned current;	  /* number of this instruction, in decoded */
	unsigned access;	  /* accesses that it has had so far */
	unsigned decodeds, groups;
	struct decoded decoded[BLOCK_INSNS];
	struct group group[BLOCK_INSNS];
	enum form_unit unit; /* of this instruction */
	unsigned lates, marks;
	struct late late[LATE_MAX];
	struct late no_late; /* for accesses that never come to C */
	struct mark mark[MARKS_MAX];
};

/* Where translated code finds what struct vcpu has, behind gs. */
#define VCPU(member) ((u32)offsetof(struct vcpu, member))

/* Was it left out (--soft-without=)? WITHOUT_* */
static inline bool without(const struct translation *t, unsigned what)
{
	return t->vcpu->soft->options.soft_without & what;
}

/* ------------------------------------------------------------------ translate.c */

/* Memory is looked at, and jumps are found, in this way from here on. */
void translation_set_view(struct translation *t, enum view view);
/* Is the next instruction in the same block, whatever it is? */
bool another_follows(const struct translation *t);
/* Number n of t->decoded. */
void put_decoded(struct translation *t, unsigned n);

/* ------------------------------------------------------------------ group.c */

/* Find the groups among these instructions, which no event of C interrupts, but those of memory. */
void group_accesses(struct translation *t, unsigned begin, unsigned end);
/* May the instruction use r10 for something else than the addend of its access? */
bool spoils_addend(const struct decoded *decoded);
/* begin_access(): the group that the next access is in, as its leader or, if it lives, behind it.
 */
struct group *group_of_access(const struct translation *t, unsigned size, bool write);
void put_plain_copy(struct translation *t, const struct late *late);

/* ------------------------------------------------------------------ operand.c */

/* Where the guest's registers live while it runs: see context.h. */
extern const u8 register_home[16];

void put_site(struct emit *e, enum site_kind kind, u8 flags, u16 size, int32_t offset, u64 arg);
/* What comes next may trap on the host, and is the guest's instruction at that offset. */
void put_mark(struct translation *t, int32_t offset);

/* A general register's number, of any width; NO_REGISTER: it is none. */
unsigned gpr_of(ZydisRegister reg);
/* The general register that an operand is, or NO_REGISTER. */
unsigned operand_gpr(const ZydisDecodedOperand *operand);
bool is_high_byte(ZydisRegister reg); /* AH, CH, DH, BH */
unsigned segment_of(ZydisRegister reg);
bool is_stack(const ZydisDecodedOperand *operand); /* through SS */

static inline bool operand_reads(const ZydisDecodedOperand *operand)
{
	return operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
}

static inline bool operand_writes(const ZydisDecodedOperand *operand)
{
	return operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

/* XCHG with memory locks, prefix or not. */
static inline bool locks(const ZydisDecodedInstruction *zi)
{
	return zi->attributes & ZYDIS_ATTRIB_HAS_LOCK || zi->mnemonic == ZYDIS_MNEMONIC_XCHG;
}

/* Addresses of 64 bits; else the upper half is clear. */
static inline bool is_address64(const struct translation *t)
{
	return t->zi.address_width == 64;
}

/*
 * The host register that has this guest register: its home, or `scratch` loaded from the context.
 */
unsigned use_gpr(struct emit *e, unsigned gpr, unsigned scratch);

/*
 * r9 = the address of a memory operand: without the segment, with it. Uses r10, and rcx. Where the
 * segment wants to be asked, begin_access() does so.
 */
void put_effective(struct translation *t, const ZydisDecodedOperand *operand, s64 more);
void put_truncation(struct translation *t);
void put_segment(struct translation *t, const ZydisDecodedOperand *operand);
void put_address(struct translation *t, const ZydisDecodedOperand *operand, s64 more);

/*
 * op [word number r10 of the view's table that is at this offset: t->tlb or t->jump and more];
 * `extension`: a register, or what takes its place in ModRM.
 */
void put_with_table(struct translation *t, bool w, u8 opcode, unsigned extension, u32 table);
/* reg = that word. */
void put_from_table(struct translation *t, unsigned reg, u32 table);

/* rcx = the tag of the TLB's entry for the address in that register, r10 = its addend. */
void put_lookup(struct translation *t, unsigned address, bool write);

/*
 * r9 is an address: probe the TLB, so that r9 + r10 is where it is on the host. What is put
 * until end_access() may be run out of line instead, on a copy. See mmu_load() and mmu_store().
 */
struct late *begin_access(struct translation *t, unsigned size, bool write, u8 flags);
void end_access(struct translation *t, struct late *late);
/*
 * Is it that of a follower? Then r10 is the addend, nothing can fault, and the address may be
 * formed by the instruction itself: neither r9 nor end_access() is wanted.
 */
bool begin_following(struct translation *t, unsigned size, bool write);

/* mov [base + r10 + displacement], reg, or the other way round; and with r9 as the base. */
void put_move_at(struct emit *e, bool store, unsigned size, unsigned reg, unsigned base,
		 int32_t displacement);
void put_move(struct emit *e, bool store, unsigned size, unsigned reg);
void put_load(struct translation *t, unsigned size, u8 flags, unsigned reg);

#define SHORT_JCC 0x70
#define SHORT_JNZ 0x75
#define SHORT_JZ  0x74
#define SHORT_JMP 0xeb
void put_short(struct emit *e, u8 opcode, u8 **distance);

/* ------------------------------------------------------------------ pass.c */

/* How the bytes of an instruction are put together again. */
struct renamed {
	bool no_rex;
	bool memory;
	unsigned base, index;		/* of the memory operand */
	unsigned reg, rm, opcode, vvvv; /* registers of the fields; NO_REGISTER: as it was */
	int32_t displacement;		/* of the memory operand */
};

/* ModRM and all behind it. */
void put_operand_bytes(struct translation *t, const struct renamed *r, unsigned reg, unsigned rm);

/* The registers of the ModRM byte, as REX makes them. */
unsigned modrm_reg(const struct translation *t);
unsigned modrm_rm(const struct translation *t);
/* Of F2 and F3 the last counts. 0: there is none. */
u8 repeat_prefix(const ZydisDecodedInstruction *zi);
bool put_pass(struct translation *t);

/* ------------------------------------------------------------------ evex.c */

void put_evex(struct translation *t, const struct renamed *r);
/* What a mask takes away of the access to that operand: 0: nothing. */
u64 evex_masked(const struct translation *t, const ZydisDecodedOperand *memory);

/* ------------------------------------------------------------------ rewrite.c */

/* Write a host register to a guest one, as an operand of `size` bytes. Scratch registers only as
 * `from`. */
void put_gpr(struct translation *t, unsigned gpr, unsigned size, unsigned from);
void put_lea(struct translation *t);
void put_mov_offset(struct translation *t);
void put_bit_string(struct translation *t);
void put_xlat(struct translation *t);
void put_zero(struct translation *t);

/* Stack operations are translated where the stack is flat. */
bool stack_is_flat(const struct translation *t);
/* r9 = where the stack is, plus that. */
void put_stack_address(struct translation *t, int32_t displacement);
void put_stack_move(struct translation *t, int32_t displacement);
void put_push(struct translation *t);
void put_pop(struct translation *t);
void put_leave(struct translation *t);

/* ------------------------------------------------------------------ string_inline.c */

/* Instead of put_handler(). False: nothing was put. */
bool put_string(struct translation *t, const struct form *form);

/* ------------------------------------------------------------------ flow.c */

/* r9: the address of what is at that offset: it becomes the page that runs. */
void put_page(struct translation *t, int32_t offset);
void put_stub(struct translation *t, struct link *link, int32_t target);
/* Go on with the next instruction. */
void put_fall(struct translation *t);
/*
 * r9: where to, as an offset in CS; adding `undo` takes back what was done to rsp. The one way out
 * to other pages.
 */
void put_jump_indirect(struct translation *t, s64 undo);
void put_jmp(struct translation *t);
void put_call(struct translation *t);
void put_ret(struct translation *t);
void put_jcc(struct translation *t);
void put_loop(struct translation *t);
/* Those of struct late that are not LATE_ACCESS. */
void put_late_flow(struct translation *t, const struct late *late);

/* ------------------------------------------------------------------ unit.c */

void unit_begin(struct translation *t);
/* Does what is translated go on behind the jump that this instruction is? */
bool unit_may_go_on(const struct translation *t);
/* It does: there begins a part. Otherwise: what put_fall() does. */
void unit_go_on(struct translation *t);
/* Somebody jumps there: if we get to it, it is a part. */
void unit_want(struct translation *t, int32_t target);
bool unit_wants(const struct translation *t, int32_t offset);
/* What is next begins a part. */
bool unit_leads(const struct translation *t);
/* It is in the cache already, and nothing of it needs to be translated. */
bool unit_ends(const struct translation *t);
void unit_begin_part(struct translation *t);
/* The part that begins at that offset; NULL: none does. */
struct block *unit_part_at(const struct translation *t, int32_t offset);
/* What is behind the instructions: ways from jump caches; ways out of what is dropped. */
void unit_put_entries(struct translation *t);
void unit_put_stubs(struct translation *t);
void unit_add(struct translation *t);

/* ------------------------------------------------------------------ describe.c */

void put_handler(struct translation *t, const struct form *form);
/* The same, for one that is translated elsewhere as long as the stack is flat. */
void put_near(struct translation *t, handler *function, bool last);
void put_raise(struct translation *t, enum vector vector);

/* ------------------------------------------------------------------ system_inline.c */

/* Instead of put_handler(). False: nothing was put. Where more follows, form->last says so. */
bool put_system(struct translation *t, struct form *form);
/* Go to the handler unless rcx is 0: what was asked has the usual answer. */
void put_unless(struct translation *t, const struct form *form);
/* rcx = 0: DF is clear. */
void put_direction(struct translation *t);
/* Go to the handler unless the jump cache of the view is for that mode. */
void put_check_of_cache(struct translation *t, u32 mode, const struct form *form);

/* ------------------------------------------------------------------ syscall_inline.c */

bool put_syscall(struct translation *t, const struct form *form);
bool put_sysret(struct translation *t, const struct form *form);

#endif
