/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MOVS, CMPS, STOS, LODS and SCAS, alone and repeated.
 *
 * They are most of what a kernel does with memory in bulk, and the silicon has had
 * forty years to get good at them: so it does them here too. What we add is where. An
 * operand is cut into pieces that stay within a page, each piece is looked up
 * once, and the same instruction runs on host addresses. Overlaps, directions
 * and flags come out right because nobody here thinks about them. What has no host
 * address (a device, a page that holds translated code, an element that lies in two
 * pages, a page that is not there) goes by single elements through mem_read()
 * and mem_write(), and the instruction looks at a copy.
 *
 * After each piece rcx, rsi and rdi are what the guest would see, so a fault or an
 * interrupt may come between any two, and executing the instruction again goes on from there.
 * INS and OUTS are not here but in ports.c. Called from translated code, as handlers.
 *
 * Tour 6.800: Strings
 */
#include "engine/soft/segment.h"
#include "engine/soft/translate.h"

#define REPE 0xf3 /* REP, where nothing is compared */

/*
 * Each handler gets a copy of all this, in which the kind is known and struct string dissolves into
 * registers. That is a third off the time of a short string, and most are short.
 */
#define INLINE static inline __attribute__((always_inline))

enum kind { MOVS, CMPS, STOS, LODS, SCAS };

/* What is the same for all elements. */
struct string {
	struct vcpu *vcpu;
	enum kind kind;
	bool while_equal;
	bool down;	/* RFLAGS.DF */
	unsigned shift; /* an element has 1 << shift bytes */
	u64 step;	/* from one to the next */
	u64 mask;	/* of offsets: the address size */
	u64 linear;	/* of addresses */
	u64 source_base, destination_base;
	bool limited; /* segments have limits, or rights */
	u8 segment;   /* of the source */
};

/* What the host's own instruction works with: its rsi, rdi, rcx and rax, and its flags then. */
struct native {
	const void *source;
	void *destination;
	u64 count;
	u64 accumulator;
	u64 flags;
	u64 copy[2]; /* of an element that has no host address: the source's, the destination's */
};

INLINE bool has_source(const struct string *string)
{
	return string->kind == MOVS || string->kind == CMPS || string->kind == LODS;
}

INLINE bool has_destination(const struct string *string)
{
	return string->kind != LODS;
}

INLINE bool compares(const struct string *string)
{
	return string->kind == CMPS || string->kind == SCAS;
}

INLINE enum access destination_access(const struct string *string)
{
	return compares(string) ? ACCESS_READ : ACCESS_WRITE;
}

/* ------------------------------------------------------------------ on the host's memory */

/* C expects DF to be clear, and to find what it keeps below rsp (the red zone). */
#define NATIVE(text)                                                                               \
	asm volatile("testb %b[down], %b[down]\n\t"                                                \
		     "jz 1f\n\t"                                                                   \
		     "std\n"                                                                       \
		     "1:\t" text "\n\t"                                                            \
		     "cld\n\t"                                                                     \
		     "lea -128(%%rsp), %%rsp\n\t"                                                  \
		     "pushfq\n\t"                                                                  \
		     "popq %[flags]\n\t"                                                           \
		     "lea 128(%%rsp), %%rsp"                                                       \
		     : "+S"(native->source), "+D"(native->destination), "+c"(native->count),       \
		       "+a"(native->accumulator), [flags] "=&r"(native->flags)                     \
		     : [down] "r"(string->down)                                                    \
		     : "memory", "cc")

#define NATIVE_OF_SIZE(text)                                                                       \
	do {                                                                                       \
		if (string->shift == 0)                                                            \
			NATIVE(text "b");                                                          \
		else if (string->shift == 1)                                                       \
			NATIVE(text "w");                                                          \
		else if (string->shift == 2)                                                       \
			NATIVE(text "l");                                                          \
		else                                                                               \
			NATIVE(text "q");                                                          \
	} while (0)

/*
 * That many elements, not 0, all at host addresses; comparing may stop before.
 *
 * Tour 6.801
 */
INLINE void run_native(const struct string *string, struct native *native)
{
	switch (string->kind) {
	case MOVS:
		NATIVE_OF_SIZE("rep movs");
		break;
	case STOS:
		NATIVE_OF_SIZE("rep stos");
		break;
	case LODS:
		NATIVE_OF_SIZE("rep lods");
		break;
	case CMPS:
		if (string->while_equal)
			NATIVE_OF_SIZE("repe cmps");
		else
			NATIVE_OF_SIZE("repne cmps");
		break;
	case SCAS:
		if (string->while_equal)
			NATIVE_OF_SIZE("repe scas");
		else
			NATIVE_OF_SIZE("repne scas");
		break;
	}
}

/* ------------------------------------------------------------------ where the elements are */

INLINE u64 source_offset(const struct string *string)
{
	return string->vcpu->ctx.gpr[RSI] & string->mask;
}

INLINE u64 destination_offset(const struct string *string)
{
	return string->vcpu->ctx.gpr[RDI] & string->mask;
}

INLINE u64 source_address(const struct string *string)
{
	return (source_offset(string) + string->source_base) & string->linear;
}

INLINE u64 destination_address(const struct string *string)
{
	return (destination_offset(string) + string->destination_base) & string->linear;
}

/* The elements, from this one on, that lie in its page whole, before the offset wraps. */
INLINE u64 elements_in_page(const struct string *string, u64 offset, u64 address)
{
	const u64 at = address % PAGE_SIZE, size = 1ull << string->shift;
	u64 bytes = PAGE_SIZE - at;

	if (string->down) {
		if (bytes < size)
			return 0;
		return ((at < offset ? at : offset) >> string->shift) + 1;
	}
	if (string->mask - offset < bytes)
		bytes = string->mask - offset + 1;
	return bytes >> string->shift;
}

/*
 * Up to `count` elements from this one on: are they all inside their segment? If not, they go one
 * by one.
 */
INLINE bool within_limits(const struct string *string, unsigned segment, u64 offset, u64 count,
			  enum access access)
{
	const struct vcpu *vcpu = string->vcpu;
	const struct segment *at = &vcpu->seg[segment];
	const u64 before = (count - 1) << string->shift;

	if (!string->limited)
		return true;
	return (!system_protected(vcpu) || segment_permits(at, access == ACCESS_WRITE)) &&
	       segment_reaches(at, vcpu->ctx.base[segment], string->down ? offset - before : offset,
			       before + (1u << string->shift));
}

/* Up to native->count elements at their host addresses: how many, or 0. */
INLINE u64 find_direct(const struct string *string, struct native *native)
{
	struct vcpu *vcpu = string->vcpu;
	u64 count = native->count, room;

	if (has_source(string)) {
		const u64 address = source_address(string);

		room = elements_in_page(string, source_offset(string), address);
		native->source = room ? mem_direct(vcpu, address, ACCESS_READ) : NULL;
		if (!native->source)
			return 0;
		count = room < count ? room : count;
	}
	if (has_destination(string)) {
		const u64 address = destination_address(string);

		room = elements_in_page(string, destination_offset(string), address);
		native->destination =
			room ? mem_direct(vcpu, address, destination_access(string)) : NULL;
		if (!native->destination)
			return 0;
		count = room < count ? room : count;
	}
	if (has_source(string) &&
	    !within_limits(string, string->segment, source_offset(string), count, ACCESS_READ))
		return 0;
	if (has_destination(string) && !within_limits(string, ES, destination_offset(string), count,
						      destination_access(string)))
		return 0;
	return count;
}

/* SDM volume 1, "Address-Size and Operand-Size Prefixes"; 32 bits clear the upper half. */
INLINE void pointer_write(const struct string *string, unsigned reg, u64 value)
{
	u64 *to = &string->vcpu->ctx.gpr[reg];

	if (string->mask == 0xffff)
		*to = (*to & ~0xffffull) | (value & 0xffff);
	else
		*to = value & string->mask;
}

INLINE void advance(const struct string *string, u64 elements)
{
	const u64 distance = elements * string->step;

	if (has_source(string))
		pointer_write(string, RSI, source_offset(string) + distance);
	if (has_destination(string))
		pointer_write(string, RDI, destination_offset(string) + distance);
}

/* ------------------------------------------------------------------ element by element */

/* Where this one's source is, or its destination; false: outside its segment, or not there. */
INLINE bool find_source(const struct string *string, u64 *address)
{
	const unsigned size = 1u << string->shift;

	*address = source_address(string);
	return (!string->limited ||
		segment_access(string->vcpu, string->segment, source_offset(string), size,
			       ACCESS_READ, address)) &&
	       mem_probe(string->vcpu, *address, size, ACCESS_READ);
}

INLINE bool find_destination(const struct string *string, u64 *address)
{
	const unsigned size = 1u << string->shift;
	const enum access access = destination_access(string);

	*address = destination_address(string);
	return (!string->limited || segment_access(string->vcpu, ES, destination_offset(string),
						   size, access, address)) &&
	       mem_probe(string->vcpu, *address, size, access);
}

/*
 * One element, wherever it is. Both sides are made sure of before either is touched, for reading
 * may be more than reading if it is a device. When both would fault, it is the source's fault,
 * except that CMPS looks at its destination first.
 */
INLINE bool run_element(const struct string *string, struct native *native)
{
	struct vcpu *vcpu = string->vcpu;
	const unsigned size = 1u << string->shift;
	u64 *source = &native->copy[0], *destination = &native->copy[1], from, to;

	native->source = source;
	native->destination = destination;
	switch (string->kind) {
	case MOVS:
		native->count = 0;
		return find_source(string, &from) && find_destination(string, &to) &&
		       mem_read(vcpu, from, source, size, ACCESS_READ) &&
		       mem_write(vcpu, to, source, size, ACCESS_WRITE);
	case STOS:
		native->count = 0;
		return find_destination(string, &to) &&
		       mem_write(vcpu, to, &native->accumulator, size, ACCESS_WRITE);
	case LODS:
		if (!find_source(string, &from) || !mem_read(vcpu, from, source, size, ACCESS_READ))
			return false;
		break;
	case CMPS:
		if (!find_destination(string, &to) || !find_source(string, &from) ||
		    !mem_read(vcpu, to, destination, size, ACCESS_READ) ||
		    !mem_read(vcpu, from, source, size, ACCESS_READ))
			return false;
		break;
	case SCAS:
		if (!find_destination(string, &to) ||
		    !mem_read(vcpu, to, destination, size, ACCESS_READ))
			return false;
		break;
	}
	run_native(string, native);
	return true;
}

/* ------------------------------------------------------------------ the whole of it */

/*
 * As many of native->count elements as one look at the page tables is good for, and at least one.
 * Returns how many, 0 with an exception recorded; rcx is left to the caller.
 */
INLINE u64 run_piece(const struct string *string, struct native *native)
{
	u64 elements = find_direct(string, native);

	if (elements) {
		native->count = elements;
		run_native(string, native);
	} else {
		elements = native->count = 1;
		if (!run_element(string, native))
			return 0;
	}
	elements -= native->count;
	string->vcpu->ctx.gpr[RAX] = native->accumulator; /* LODS changed it */
	advance(string, elements);
	return elements;
}

/* Is a repeated comparison at its end, whatever rcx says? */
INLINE bool decided(const struct string *string, const struct native *native)
{
	return compares(string) && !(native->flags & X86_EFLAGS_ZF) == string->while_equal;
}

INLINE void finish(const struct string *string, const struct native *native)
{
	struct vcpu *vcpu = string->vcpu;

	if (compares(string))
		vcpu->ctx.arith = native->flags & FLAGS_ARITH;
}

/*
 * The flags change at the end only: a comparison that faults on its way shows those from before
 * (SDM volume 2, "REP/REPE/REPZ/REPNE/REPNZ").
 */
INLINE bool run_repeated(const struct string *string, struct native *native)
{
	struct vcpu *vcpu = string->vcpu;
	u64 left = vcpu->ctx.gpr[RCX] & string->mask, epoch = vcpu->cache->epoch;

	/* Not in the manual, but so does the silicon: upper halves go before the first element. */
	pointer_write(string, RCX, left);
	if (!compares(string) && string->kind != LODS)
		advance(string, 0);

	while (left) {
		u64 done;

		native->count = left;
		done = run_piece(string, native);
		if (!done)
			return false;
		left -= done;
		pointer_write(string, RCX, left);
		if (!left || decided(string, native)) {
			finish(string, native);
			break;
		}
		/* Has it overwritten code, perhaps its own? */
		if (vcpu->cache->epoch != epoch ||
		    atomic_load_explicit(&vcpu->ctx.poll, memory_order_relaxed)) {
			vcpu->ctx.rip = vcpu->insn_rip;
			break;
		}
	}
	return true;
}

INLINE u64 size_mask(unsigned bytes)
{
	return bytes == 8 ? ~0ull : (1ull << bytes * 8) - 1;
}

/* Is there nothing to check, in ES and in the source's segment? FS and GS may have a base. */
INLINE bool is_flat(const struct vcpu *vcpu, unsigned source)
{
	return vcpu->mode & MODE_FLAT && source != FS && source != GS;
}

INLINE bool run(struct vcpu *vcpu, const struct insn *insn, enum kind kind)
{
	const unsigned shift = __builtin_ctz(insn->opsize);
	const struct string string = {
		.vcpu = vcpu,
		.kind = kind,
		.while_equal = insn->repeat == REPE,
		.down = vcpu->ctx.step[shift] < 0,
		.shift = shift,
		.step = vcpu->ctx.step[shift],
		.mask = size_mask(insn->addrsize),
		.linear = size_mask(vcpu_64bit(vcpu) ? 8 : 4),
		.source_base = kind == STOS || kind == SCAS ? 0 : vcpu->ctx.base[insn->segment],
		.destination_base = vcpu->ctx.base[ES],
		.limited = vcpu->mode & MODE_CODE && !is_flat(vcpu, insn->segment),
		.segment = insn->segment,
	};
	struct native native = {.count = 1, .accumulator = vcpu->ctx.gpr[RAX]};

	vcpu->stats.string_insns++;
	if (insn->repeat)
		return run_repeated(&string, &native);
	if (!run_piece(&string, &native))
		return false;
	finish(&string, &native);
	return true;
}

bool string_movs(struct vcpu *vcpu, const struct insn *insn)
{
	return run(vcpu, insn, MOVS);
}

bool string_cmps(struct vcpu *vcpu, const struct insn *insn)
{
	return run(vcpu, insn, CMPS);
}

bool string_stos(struct vcpu *vcpu, const struct insn *insn)
{
	return run(vcpu, insn, STOS);
}

bool string_lods(struct vcpu *vcpu, const struct insn *insn)
{
	return run(vcpu, insn, LODS);
}

bool string_scas(struct vcpu *vcpu, const struct insn *insn)
{
	return run(vcpu, insn, SCAS);
}
