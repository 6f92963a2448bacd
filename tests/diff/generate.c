/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A sequence of instructions from a number.
 *
 * Pure chance would fault at once: nearly all addresses are unmapped, nearly all values
 * are no pointers. So chance is helped. Most registers begin as pointers into the data
 * pages; for each memory operand an address is chosen first (often where a page ends),
 * and then the displacement that leads there, if the registers still hold what they
 * began with. Enough goes wrong by itself. Some operands are neighbours of the one before.
 *
 * The same number always gives the same sequence: both sides generate it for themselves.
 */
#include "diff.h"

#include <asm/processor-flags.h>
#include <stdlib.h>
#include <string.h>

/* Intel SDM volume 1, "XSAVE-Managed State": without what not every kernel enables. */
#define COMPONENTS     0xe7u
#define COMPONENT_PKRU 0x200ull
#define COMPONENTS_MPX 0x18ull
#define COMPACTED      (1ull << 63)
#define XSAVE_HEADER   512

#define NEAR 64 /* bytes */

/* Stops the sequence: an instruction that is undefined for ever. */
#define UD2_LENGTH 2

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

struct generator {
	const struct forms *forms;
	struct random random;
	struct sequence *sequence;
	u16 changed;	 /* registers that an instruction before this may have written */
	bool x87;	 /* there is an x87 instruction, which leaves its address in the CPU */
	bool image;	 /* there is one that stores that address */
	bool alone;	 /* one instruction, of one form */
	bool compat;	 /* 32-bit code */
	bool narrow;	 /* 16-bit code */
	u32 base;	 /* of the data segments */
	u64 last_target; /* of a memory operand, 0: there was none, and by which register */
	unsigned last_base;
};

static u64 below(struct generator *g, u64 limit)
{
	return random_below(&g->random, limit);
}

static bool percent(struct generator *g, unsigned chance)
{
	return random_percent(&g->random, chance);
}

static unsigned any_register(struct generator *g)
{
	return below(g, g->compat ? 8 : 16);
}

u8 *sequence_memory(u8 memory[DATA_PAGES][PAGE_SIZE], u64 address)
{
	for (unsigned i = 0; i < DATA_PAGES; i++)
		if (address - pages[CODE_PAGES + i].address < PAGE_SIZE)
			return &memory[i][address % PAGE_SIZE];
	return NULL;
}

/* An address in the data pages, for an operand of about that size. */
static u64 pick_address(struct generator *g, unsigned size)
{
	/* The pages that can be written are likelier, and the fourth of the address space, which
	 * is read-only; and then there are the holes. */
	static const u8 likely[] = {0, 0, 0, 0, 1, 1, 1, 1, 3, 3, 3, 5, 5, 5, 4, 2};
	u64 page = DATA_BASE + likely[below(g, ARRAY_SIZE(likely))] * PAGE_SIZE;

	size = MAX(size, 1u);
	switch (below(g, 10)) {
	case 0 ... 5:
		return page + below(g, PAGE_SIZE / size) * size;
	case 6 ... 7:
		return page + PAGE_SIZE - below(g, size + 2); /* over the end, or nearly so */
	default:
		return page + below(g, PAGE_SIZE - size);
	}
}

/* The same as an offset, which is what registers and memory hold. */
static u64 pick_pointer(struct generator *g, unsigned size)
{
	return pick_address(g, size) - g->base;
}

static u64 pick_value(struct generator *g)
{
	static const u64 edges[] = {
		0,	    1,	    0x7f,	 0x80,		 0xff,	     0x7fff,
		0x8000,	    0xffff, 0x7fffffff,	 0x80000000,	 0xffffffff, 0x7fffffffffffffff,
		1ull << 63, ~0ull,  ~0ull << 32, 0x7fffffffffff,
	};

	switch (below(g, 4)) {
	case 0:
		return edges[below(g, ARRAY_SIZE(edges))];
	case 1:
		return below(g, 64);
	default:
		return random_u64(&g->random) >> below(g, 64);
	}
}

/* ------------------------------------------------------------------ what it begins with */

/* Contents by the 64 bytes: noise, small numbers, floats, doubles, pointers. */
static void fill(struct generator *g, u8 *at, unsigned length, unsigned style)
{
	for (unsigned i = 0; i < length; i += 8) {
		u64 value = random_u64(&g->random);

		if (i % 64 == 0)
			style = below(g, 8);
		switch (style) {
		case 0:
			value &= 0xf0000000f; /* two small numbers */
			break;
		case 1: /* floats around 1; one in 16 is something special */
			value = (value & 0x83ffffff83ffffff) | 0x3c0000003c000000;
			if (below(g, 16) == 0)
				value |= 0x7f8000007f800000;
			break;
		case 2:
			value = (value & 0x800fffffffffffff) | 0x3ff0000000000000;
			break;
		case 3:
			if (value & 1)
				value = (value & 0x80000000) ? 0 : 0x7ff0000000000000;
			break;
		case 4:
			value = pick_pointer(g, 8);
			break;
		default:
			break;
		}
		memcpy(at + i, &value, MIN(8u, length - i));
	}
}

/* Memory is mostly the same each time, or filling it would take longer than running. */
static void fill_memory(struct generator *g)
{
	u64 *word = (u64 *)g->sequence->memory;
	u64 x = random_u64(&g->random);

	for (unsigned i = 0; i < sizeof(g->sequence->memory) / 8; i++) {
		x = x * 6364136223846793005 + 1442695040888963407; /* Knuth's MMIX */
		word[i] = x;
	}
	for (unsigned i = 0; i < DATA_PAGES * 4; i++) {
		u8 *page = g->sequence->memory[i % DATA_PAGES];
		unsigned at = i < DATA_PAGES	   ? 0
			      : i < 2 * DATA_PAGES ? PAGE_SIZE - 64
						   : below(g, PAGE_SIZE / 64) * 64;

		fill(g, page + at, 64, 0);
	}
}

/* Of elements, for operands of which the first or the last are not there. */
static u64 pick_mask(struct generator *g)
{
	switch (below(g, 6)) {
	case 0:
		return ~0ull;
	case 1:
		return ~0ull << below(g, 17);
	case 2:
		return (1ull << below(g, 17)) - 1;
	case 3:
		return random_u64(&g->random) & random_u64(&g->random) & random_u64(&g->random);
	default:
		return random_u64(&g->random) >> below(g, 64);
	}
}

static void fill_vectors(struct generator *g)
{
	struct vectors *v = &g->sequence->initial.vectors;

	for (unsigned i = 0; i < 16; i++) {
		fill(g, v->low[i], 16, 0);
		fill(g, v->high[i], 16, 0);
		if (percent(g, 30))
			memset(v->high[i], 0, 16);
		fill(g, v->higher[i], 32, 0);
		fill(g, v->upper[i], 64, 0);
	}
	for (unsigned i = 0; i < 8; i++)
		v->mask[i] = pick_mask(g);
	/* All exceptions masked, mostly; rounding, flush to zero and the flags by chance. */
	v->mxcsr = 0x1f80;
	if (percent(g, 50))
		v->mxcsr = (random_u64(&g->random) & 0xe07f) | 0x1f80;
	if (percent(g, 10))
		v->mxcsr = random_u64(&g->random) & 0xffff;
	v->control = 0x37f;
	if (percent(g, 30))
		v->control = 0x7f | (random_u64(&g->random) & 0xf00);
	if (percent(g, 10))
		v->control = 0x40 | (random_u64(&g->random) & 0xf3f);
	/* Condition codes and top; sometimes exceptions. */
	v->status = random_u64(&g->random) & 0x7f00;
	if (percent(g, 30))
		v->status |= random_u64(&g->random) & 0x7f;
	if (v->status & ~v->control & 0x3f)
		v->status |= 0x8080; /* ES, and B, which is the same */
	else
		v->status &= 0x7f7f;
	v->tags = percent(g, 50) ? 0xff : random_u64(&g->random);
	for (unsigned i = 0; i < 8; i++) {
		/* Around 1 mostly. Integer bit set: others are not numbers at all. */
		u64 significand = random_u64(&g->random) | (u64)!percent(g, 3) << 63;
		u16 exponent = percent(g, 80) ? 0x3fff - 32 + below(g, 80)
					      : (u16)random_u64(&g->random) % 0x8000;

		exponent |= (u16)(random_u64(&g->random) & 0x8000);
		if (percent(g, 5))
			exponent |= 0x7fff;
		if (percent(g, 10))
			significand &= 1ull << 63;
		if (percent(g, 30))
			exponent = 0xffff; /* an MMX register */
		memcpy(v->x87[i], &significand, 8);
		memcpy(v->x87[i] + 8, &exponent, 2);
	}
}

static u64 pick_segment_base(struct generator *g)
{
	switch (below(g, 4)) {
	case 0:
		return below(g, MiB(1));
	case 1:
		return -below(g, MiB(1));
	case 2:
		return pick_address(g, 8);
	default:
		return random_u64(&g->random) >> 17;
	}
}

static u32 pick_limit(struct generator *g)
{
	switch (below(g, 6)) {
	case 0:
		return UINT32_MAX;
	case 1:
		return DATA_BASE + (DATA_PAGES + 1) * PAGE_SIZE - 1 - g->base;
	case 2:
		return below(g, (DATA_PAGES + 1) * PAGE_SIZE);
	default:
		return UINT16_MAX;
	}
}

/* Data is at the same offsets in all segments, but not all of it is in each. */
static void choose_segments(struct generator *g)
{
	struct local *local = g->sequence->local;

	g->base = DATA_BASE - (percent(g, 50) ? 0 : below(g, 2 * PAGE_SIZE));
	for (unsigned i = 0; i < LOCALS; i++) {
		bool down = percent(g, 10);

		local[i] = (struct local){
			.base = g->base,
			.limit = down ? below(g, 3 * PAGE_SIZE) : pick_limit(g),
			.down = down,
			.fixed = i != LOCAL_SS && percent(g, 8),
			.big = percent(g, g->narrow ? 30 : 60),
		};
	}
	local[LOCAL_CS] = (struct local){
		.base = CODE_BASE - (percent(g, 50) ? 0 : below(g, PAGE_SIZE)),
		.code = true,
		.fixed = percent(g, 10),
		.big = !g->narrow,
	};
	g->sequence->segmented = true;
}

static void begin_state(struct generator *g)
{
	struct state *state = &g->sequence->initial;

	for (unsigned i = 0; i < 16; i++)
		state->gpr[i] = percent(g, 55) ? pick_pointer(g, 16) : pick_value(g);
	state->gpr[RSP] = DATA_BASE - g->base + PAGE_SIZE + below(g, PAGE_SIZE / 8) * 8;
	if (percent(g, 15))
		state->gpr[RSP] = pick_pointer(g, 8);
	if (percent(g, 60))
		state->gpr[RCX] = below(g, 40);
	if (percent(g, 60))
		state->gpr[RSI] = pick_pointer(g, 8);
	if (percent(g, 60))
		state->gpr[RDI] = pick_pointer(g, 8);
	state->rflags = 0x202 | (random_u64(&g->random) & 0x8d5);
	if (percent(g, 20))
		state->rflags |= X86_EFLAGS_DF;
	state->fs_base = pick_segment_base(g);
	state->gs_base = pick_segment_base(g);
	if (g->compat) {
		for (unsigned i = 0; i < 8; i++)
			state->gpr[i] = (u32)state->gpr[i];
		state->fs_base = (u32)state->fs_base;
		state->gs_base = (u32)state->gs_base;
	}
	fill_vectors(g);
	fill_memory(g);
}

/* ------------------------------------------------------------------ one instruction */

/* An instruction under construction. */
struct draft {
	struct generator *g;
	const struct form *form;
	u8 bytes[40];
	unsigned length;
	bool rex, w, r, x, b;
	bool reg_high, vvvv_high; /* EVEX.R' and V' */
	bool address32;
	u8 modrm, sib, reg;
	bool has_sib;
	u8 disp_length;
	s64 disp;
	unsigned segment; /* its prefix, or 0 */
	bool rip;
	u64 target; /* what a memory operand should address */
	bool near;  /* by the same register as the last one, not far from there */
	u8 low[3];  /* registers that VEX gathers must not have in common */
};

static void put(struct draft *d, u8 byte)
{
	d->bytes[d->length++] = byte;
}

static u64 segment_base(const struct draft *d)
{
	const struct state *state = &d->g->sequence->initial;

	switch (d->segment) {
	case 0x64:
		return state->fs_base;
	case 0x65:
		return state->gs_base;
	case 0x2e:
		return d->g->compat ? d->g->sequence->local[LOCAL_CS].base : 0;
	default:
		return d->g->base;
	}
}

static u64 register_now(struct draft *d, unsigned reg)
{
	u64 value = d->g->sequence->initial.gpr[reg];

	return d->address32 ? (u32)value : value;
}

/* One that holds a pointer, unless chance wants otherwise. */
static unsigned pick_base(struct draft *d)
{
	unsigned reg = any_register(d->g);

	for (unsigned i = 0; i < 6 && !percent(d->g, 5); i++) {
		u64 value = d->g->sequence->initial.gpr[reg];

		if (!(d->g->changed & 1u << reg) && value + d->g->base - DATA_BASE < MiB(1))
			break;
		reg = any_register(d->g);
	}
	return reg;
}

static unsigned pick_index(struct draft *d)
{
	unsigned reg = any_register(d->g);

	for (unsigned i = 0; i < 6 && !percent(d->g, 10); i++) {
		u64 value = d->g->sequence->initial.gpr[reg];

		if (reg != RSP && !(d->g->changed & 1u << reg) && value < MiB(64))
			break;
		reg = any_register(d->g);
	}
	return reg == RSP ? RBP : reg;
}

/* The displacement that leads from here to the target, if there is one of some length. */
static void choose_displacement(struct draft *d, u64 from, bool none_allowed)
{
	s64 distance = (s64)(d->target - from - segment_base(d));
	s64 unit = d->form->evex ? d->form->scale : 1;

	if (d->address32 || d->g->compat)
		distance = (int32_t)distance;
	if (distance != (int32_t)distance)
		distance = (int32_t)random_u64(&d->g->random);
	if (distance % unit == 0 && distance / unit == (signed char)(distance / unit) &&
	    percent(d->g, 80)) {
		d->disp_length = distance || !none_allowed ? 1 : 0;
		distance /= unit;
	} else if (percent(d->g, 4)) {
		d->disp_length = none_allowed ? 0 : 1;
	} else {
		d->disp_length = 4;
	}
	d->disp = d->disp_length ? distance : 0;
}

static void set_modrm(struct draft *d, u8 mod, u8 rm)
{
	d->modrm = mod << 6 | (d->reg & 7) << 3 | (rm & 7);
}

static u8 mod_for(unsigned disp_length)
{
	return disp_length == 0 ? 0 : disp_length == 1 ? 1 : 2;
}

/* Intel SDM 2A, "16-Bit Addressing Forms with the ModR/M Byte". */
static void choose_memory16(struct draft *d)
{
	static const u8 registers[8][2] = {{RBX, RSI}, {RBX, RDI}, {RBP, RSI}, {RBP, RDI},
					   {RSI},      {RDI},	   {RBP},      {RBX}};
	const u64 *gpr = d->g->sequence->initial.gpr;
	u8 rm = below(d->g, 8), mod = below(d->g, 3);
	u16 from = gpr[registers[rm][0]] + (rm < 4 ? gpr[registers[rm][1]] : 0);

	if (mod == 0 && rm == 6)
		from = 0;
	d->disp_length = mod == 0 && rm == 6 ? 2 : mod;
	d->disp = (u16)(d->target - segment_base(d)) - from;
	set_modrm(d, mod, rm);
}

static void choose_memory(struct draft *d)
{
	struct generator *g = d->g;
	bool sib = d->form->vsib || percent(g, 40);
	unsigned base, index, scale = below(g, 4);
	u64 from;

	if (!d->form->vsib && !d->near && percent(g, 10)) {
		d->rip = !g->compat;
		d->disp_length = 4;
		d->disp = (int32_t)(d->target - segment_base(d));
		set_modrm(d, 0, 5);
		return;
	}
	if (!d->near && percent(g, 5)) { /* absolute */
		d->disp_length = 4;
		d->disp = (int32_t)(d->target - segment_base(d));
		d->has_sib = true;
		d->sib = 4 << 3 | 5;
		if (d->form->vsib)
			d->sib = scale << 6 | d->low[0] << 3 | 5;
		set_modrm(d, 0, 4);
		return;
	}
	base = d->near ? g->last_base : pick_base(d);
	g->last_base = base;
	g->last_target = d->target;
	from = register_now(d, base);
	d->b = base & 8;
	if (sib || (base & 7) == RSP) {
		d->has_sib = true;
		if (d->form->vsib) {
			index = d->low[0];
		} else if (!sib || d->near || percent(g, 20)) {
			index = RSP; /* which means none */
		} else {
			index = pick_index(d);
			from += register_now(d, index) << scale;
		}
		d->x = index & 8;
		d->sib = scale << 6 | (index & 7) << 3 | (base & 7);
	}
	choose_displacement(d, from, (base & 7) != RBP);
	set_modrm(d, mod_for(d->disp_length), d->has_sib ? 4 : base);
}

/* ModRM.reg and what ModRM.rm leads to, with all their extensions. */
static void choose_operands(struct draft *d)
{
	const struct form *form = d->form;
	struct generator *g = d->g;

	for (unsigned i = 0; i < 3; i++)
		do
			d->low[i] = below(g, 8);
		while ((i > 0 && d->low[i] == d->low[0]) || (i > 1 && d->low[i] == d->low[1]));
	if (form->reg == FORM_ANY) {
		d->reg = form->vsib && percent(g, 95) ? d->low[1] : any_register(g);
		d->r = d->reg & 8;
	} else {
		d->reg = form->reg;
		d->r = !g->compat && percent(g, 5);
	}
	if (form->memory && g->compat && d->address32 != g->narrow && !form->vsib) {
		choose_memory16(d);
	} else if (form->memory) {
		choose_memory(d);
	} else if (form->rm == FORM_ANY) {
		u8 rm = any_register(g);

		d->b = rm & 8;
		set_modrm(d, 3, rm);
	} else {
		set_modrm(d, 3, form->rm);
	}
}

static void put_opcode_map(struct draft *d)
{
	if (d->form->map > 0)
		put(d, 0x0f);
	if (d->form->map == 2)
		put(d, 0x38);
	if (d->form->map == 3)
		put(d, 0x3a);
}

static const u8 pp[256] = {[0x66] = 1, [0xf3] = 2, [0xf2] = 3}; /* by prefix */

static void put_vex(struct draft *d)
{
	const struct form *form = d->form;
	u8 vvvv = 15;

	if (form->vvvv)
		vvvv = form->vsib && percent(d->g, 95) ? 15u - d->low[2] : 15u - any_register(d->g);
	if (form->map == 1 && !form->wide && !d->x && !d->b && percent(d->g, 60)) {
		put(d, 0xc5);
		put(d, !d->r << 7 | vvvv << 3 | form->length << 2 | pp[form->prefix]);
		return;
	}
	put(d, 0xc4);
	put(d, !d->r << 7 | !d->x << 6 | !d->b << 5 | form->map);
	put(d, form->wide << 7 | vvvv << 3 | form->length << 2 | pp[form->prefix]);
}

/* Intel SDM volume 2, "EVEX Prefix". What does not go together is not an instruction. */
static void put_evex(struct draft *d)
{
	const struct form *form = d->form;
	struct generator *g = d->g;
	bool rounding = form->b && !form->memory;
	u8 vvvv = form->vvvv ? 15u - any_register(g) : 15u;
	u8 mask = form->vsib || percent(g, 60) ? below(g, 8) : 0;
	u8 length = rounding ? below(g, 4) : form->length;

	put(d, 0x62);
	put(d, !d->r << 7 | !d->x << 6 | !d->b << 5 | !d->reg_high << 4 | form->map);
	put(d, form->wide << 7 | vvvv << 3 | 4 | pp[form->prefix]);
	put(d,
	    (mask && percent(g, 30)) << 7 | length << 5 | form->b << 4 | !d->vvvv_high << 3 | mask);
}

/* The other half of the vector registers, where an operand may be one. */
static void choose_high(struct draft *d)
{
	struct generator *g = d->g;

	if (!d->form->evex || g->compat)
		return;
	if (d->form->reg == FORM_ANY)
		d->reg_high = percent(g, 30);
	if (!d->form->memory)
		d->x = percent(g, 30);
	d->vvvv_high = (d->form->vvvv || d->form->vsib) && percent(g, 30);
}

static void put_prefixes(struct draft *d)
{
	static const u8 segments[] = {0x64, 0x65, 0x64, 0x65, 0x26, 0x2e, 0x36, 0x3e};
	const struct form *form = d->form;
	struct generator *g = d->g;

	if (percent(g, 10)) {
		d->segment = segments[below(g, ARRAY_SIZE(segments))];
		put(d, d->segment);
	}
	if (percent(g, 5)) {
		d->address32 = true;
		put(d, 0x67);
	}
	if (form->vex || form->evex)
		return;
	if (form->lockable && form->memory && percent(g, 30))
		put(d, 0xf0);
	if (form->prefix && form->prefix != 0x66 && !form->odd && percent(g, 3))
		put(d, 0x66);
	if (form->prefix)
		put(d, form->prefix);
}

static void put_rex(struct draft *d)
{
	u8 rex = 0x40 | d->form->wide << 3 | d->r << 2 | d->x << 1 | d->b;

	if (d->g->compat)
		return;
	if (!d->form->modrm && percent(d->g, 30))
		rex |= 1; /* a register in the opcode */
	if (rex != 0x40 || percent(d->g, 15))
		put(d, rex);
}

static void put_modrm(struct draft *d)
{
	put(d, d->modrm);
	if (d->has_sib)
		put(d, d->sib);
	for (unsigned i = 0; i < d->disp_length; i++)
		put(d, (u64)d->disp >> 8 * i);
}

/* `form`, and all that it leaves open by chance. False: not a valid instruction after all. */
static bool draft_make(struct draft *d, ZydisDecodedInstruction *insn,
		       ZydisDecodedOperand *operands)
{
	const struct form *form = d->form;

	put_prefixes(d);
	if (form->modrm)
		choose_operands(d);
	choose_high(d);
	if (form->evex) {
		put_evex(d);
	} else if (form->vex) {
		put_vex(d);
	} else {
		put_rex(d);
		put_opcode_map(d);
	}
	put(d, form->opcode);
	if (form->modrm)
		put_modrm(d);
	for (unsigned i = 0; i < 9; i++)
		put(d, random_u64(&d->g->random)); /* immediates, as many as there are */
	return !ZYAN_FAILED(
		ZydisDecoderDecodeFull(&d->g->forms->decoder, d->bytes, d->length, insn, operands));
}

/* x87 state can be stored only where the CPU has not kept the address of an instruction. */
static bool is_x87_image(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		return true;
	default:
		return false;
	}
}

static bool stores_x87_address(const ZydisDecodedInstruction *insn)
{
	return form_is_xsave(insn) || is_x87_image(insn->mnemonic);
}

/* Of the memory operand: a guess is good enough. */
static unsigned memory_size(const struct form *form)
{
	if (form->evex)
		return form->size;
	if (form->vex)
		return 16u << form->length;
	if (form->class == FORM_SSE)
		return 16;
	if (form->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B || is_x87_image(form->mnemonic))
		return 16;
	if (form->xsave)
		return 64;
	return form->class == FORM_X87 ? 8 : form->wide ? 8 : 4;
}

/* ------------------------------------------------------------------ items */

static struct item *new_item(struct generator *g, const u8 *bytes, unsigned length);

/* Of 32-bit code, which in 16-bit code needs a prefix for it. */
static struct item *new_item32(struct generator *g, const u8 *bytes, unsigned length)
{
	u8 prefixed[ITEM_BYTES] = {0x66};

	memcpy(prefixed + 1, bytes, length);
	return g->narrow ? new_item(g, prefixed, length + 1) : new_item(g, bytes, length);
}

static struct item *new_item(struct generator *g, const u8 *bytes, unsigned length)
{
	struct item *item = &g->sequence->items[g->sequence->count++];

	*item = (struct item){.length = length, .target = ITEM_NONE};
	memcpy(item->bytes, bytes, length);
	return item;
}

/* After the next instruction, mostly: how many items that will be is known at the end. */
static u8 later(struct generator *g, unsigned skip)
{
	return g->sequence->count + 1 + (percent(g, 50) ? 0 : below(g, skip));
}

static void note_changes(struct generator *g, const ZydisDecodedInstruction *insn,
			 const ZydisDecodedOperand *operands)
{
	for (unsigned i = 0; i < insn->operand_count; i++) {
		ZydisRegister reg;

		if (operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(operands[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
						       operands[i].reg.value);
		/* The stack pointer moves a little; its neighbourhood stays. */
		if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15 &&
		    (reg != ZYDIS_REGISTER_RSP ||
		     operands[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT))
			g->changed |= 1u << (reg - ZYDIS_REGISTER_RAX);
	}
}

/* The word at this address is where a jump goes that reads it. */
static void plant(struct generator *g, u64 address, u8 target)
{
	struct sequence *sequence = g->sequence;

	if (sequence_memory(sequence->memory, address) &&
	    sequence_memory(sequence->memory, address + 7) && sequence->planted_count < ITEMS_MAX)
		sequence->planted[sequence->planted_count++] = (struct planted){address, target};
}

/* Where the parts of the instruction go that are not known yet. */
static void add_fixups(struct generator *g, struct item *item, const struct draft *d,
		       const ZydisDecodedInstruction *insn)
{
	if (insn->raw.imm[0].is_relative) {
		item->fixup = insn->raw.imm[0].offset;
		item->fixup_length = insn->raw.imm[0].size / 8;
		item->target = later(g, 4) - 1;
		if (item->fixup_length == 4 && percent(g, 2))
			item->fixup_length = 0; /* to wherever */
	}
	if (d->rip) {
		item->fixup = insn->raw.disp.offset;
		item->fixup_length = 4;
		item->address = d->target - segment_base(d);
	}
	if (d->form->class == FORM_BRANCH && d->form->memory && percent(g, 70))
		plant(g, d->target, later(g, 4) - 1);
	if (insn->meta.category == ZYDIS_CATEGORY_RET && !(g->changed & 1u << RSP))
		plant(g, g->sequence->initial.gpr[RSP] + g->base, later(g, 4) - 1);
}

/* Immediates that mean nothing at random. */
static void tame_immediates(struct generator *g, struct draft *d,
			    const ZydisDecodedInstruction *insn)
{
	if (insn->mnemonic == ZYDIS_MNEMONIC_ENTER && percent(g, 80)) {
		d->bytes[insn->raw.imm[0].offset + 1] = 0;
		d->bytes[insn->raw.imm[1].offset] &= 7;
	}
	if (insn->meta.category == ZYDIS_CATEGORY_RET && insn->raw.imm[0].size)
		d->bytes[insn->raw.imm[0].offset + 1] &= 3;
	/* mov al, [address] and its three relatives */
	if (insn->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (insn->opcode & 0xfc) == 0xa0) {
		u64 address = d->target - segment_base(d);

		memcpy(&d->bytes[insn->raw.disp.offset], &address, insn->raw.disp.size / 8);
	}
}

static u8 register_number(ZydisRegister reg)
{
	return (u8)ZydisRegisterGetId(reg) & 15;
}

/* bt and its relatives address memory by a register of any value: better a small one. */
static void tame_state(struct generator *g, const ZydisDecodedInstruction *insn,
		       const ZydisDecodedOperand *operands, const struct form *form)
{
	u64 *gpr = g->sequence->initial.gpr;

	if (!g->alone)
		return;
	if (form->memory && insn->operand_count > 1 &&
	    operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    insn->meta.category == ZYDIS_CATEGORY_BITBYTE && percent(g, 80)) {
		unsigned reg = register_number(operands[1].reg.value);

		if (reg != register_number(operands[0].mem.base) &&
		    reg != register_number(operands[0].mem.index))
			gpr[reg] = (s64)(random_u64(&g->random) << 51) >> 51;
	}
	if (insn->meta.category == ZYDIS_CATEGORY_STRINGOP && percent(g, 70)) {
		gpr[RCX] = below(g, 64);
		gpr[RSI] = pick_pointer(g, 8);
		gpr[RDI] = pick_pointer(g, 8);
	}
}

/*
 * The header of XRSTOR's image, in either format. Not with PKRU: it would take the tester's memory
 * away from it. Nor with MPX, which the host may have, and then allows.
 */
static void tame_header(struct generator *g, u64 at)
{
	u64 header[8] = {random_u64(&g->random) & COMPONENTS};

	if (percent(g, 50))
		header[1] = COMPACTED | header[0] | (random_u64(&g->random) & COMPONENTS);
	if (percent(g, 5))
		header[below(g, 8)] ^= 1ull << below(g, 64);
	header[0] &= ~(COMPONENT_PKRU | COMPONENTS_MPX);
	header[1] &= ~COMPONENTS_MPX;
	for (unsigned i = 0; i < sizeof(header); i++)
		if (sequence_memory(g->sequence->memory, at + i))
			*sequence_memory(g->sequence->memory, at + i) = header[i / 8] >> i % 8 * 8;
}

/* mov eax, components: those that both sides have; the host's may have MPX, too. */
static void add_components(struct generator *g, bool restore)
{
	u32 components =
		random_u64(&g->random) & (restore ? COMPONENTS : COMPONENTS | COMPONENT_PKRU);
	u8 mov[5] = {0xb8};

	memcpy(mov + 1, &components, 4);
	new_item(g, mov, sizeof(mov));
	g->changed |= 1u << RAX;
}

/* Most values of MXCSR are refused: better one that is not. */
static void tame_memory(struct generator *g, const struct draft *d,
			const ZydisDecodedInstruction *insn)
{
	u32 value = (random_u64(&g->random) & 0xe07f) | 0x1f80;
	u64 at = d->target;

	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		at += 24;
		break;
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		tame_header(g, at + XSAVE_HEADER);
		at += 24;
		break;
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR:
		break;
	default:
		return;
	}
	for (unsigned i = 0; i < 4 && percent(g, 99); i++)
		if (sequence_memory(g->sequence->memory, at + i))
			*sequence_memory(g->sequence->memory, at + i) = value >> 8 * i;
}

/* The address of an item into a register. */
static struct item *add_label(struct generator *g, unsigned reg)
{
	const u8 lea[7] = {0x48 | (reg >> 3) << 2, 0x8d, 0x05 | (reg & 7) << 3};
	const u8 mov[5] = {0xb8 | (reg & 7)};
	struct item *item =
		g->compat ? new_item32(g, mov, sizeof(mov)) : new_item(g, lea, sizeof(lea));

	item->absolute = g->compat;
	item->base = g->compat ? g->sequence->local[LOCAL_CS].base : 0;
	item->fixup = item->length - 4;
	item->fixup_length = 4;
	g->changed |= 1u << reg;
	return item;
}

static bool add_instance(struct generator *g, const struct form *form)
{
	struct draft d = {.g = g, .form = form};
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	enum form_class class;
	struct item *added;
	bool joined = false;

	d.near = g->last_target && percent(g, 30);
	d.target = d.near ? g->last_target + below(g, 2 * NEAR) - NEAR
			  : pick_address(g, memory_size(form));
	if (!draft_make(&d, &insn, operands))
		return false;
	class = form_classify(&insn, operands);
	if (class == FORM_SYSTEM || (g->alone && insn.mnemonic != form->mnemonic))
		return false;
	if (stores_x87_address(&insn) ? g->x87 : class == FORM_X87 && g->image)
		return false;
	if (insn.length > ITEM_BYTES)
		return false;
	/* To a register that may hold anything: only by way of a macro. */
	if (class == FORM_BRANCH && form->modrm && !form->memory) {
		unsigned reg = register_number(operands[0].reg.value);

		/* rdi: a string instruction might overwrite itself, half way. */
		if (reg == RSP || reg == RDI)
			return false;
		if (percent(g, 90)) {
			add_label(g, reg)->target = later(g, 4);
			joined = true;
		}
	}
	if (form_is_xsave(&insn)) {
		add_components(g, form_is_xrstor(&insn));
		joined = true;
	}
	tame_immediates(g, &d, &insn);
	tame_memory(g, &d, &insn);
	tame_state(g, &insn, operands, form);
	added = new_item(g, d.bytes, insn.length);
	added->joined = joined;
	add_fixups(g, added, &d, &insn);
	note_changes(g, &insn, operands);
	g->image |= stores_x87_address(&insn);
	g->x87 |= class == FORM_X87 || stores_x87_address(&insn);
	return true;
}

/* ------------------------------------------------------------------ macros */

/* mov reg, address: a register is a pointer again */
static void add_pointer(struct generator *g)
{
	unsigned reg = any_register(g);
	u32 address = pick_pointer(g, 16);
	u8 mov[7] = {0x48 | reg >> 3, 0xc7, 0xc0 | (reg & 7)};

	memcpy(mov + 3, &address, 4);
	new_item32(g, mov + g->compat, sizeof(mov) - g->compat); /* without REX */
	g->sequence->initial.gpr[reg] = address; /* for those that come after; see generate() */
	g->changed &= ~(1u << reg);
}

/* push imm32; popfq, with flags that do no harm */
static void add_popf(struct generator *g)
{
	u32 flags = random_u64(&g->random) & 0xed7;
	u8 push[5] = {0x68};

	memcpy(push + 1, &flags, 4);
	new_item32(g, push, sizeof(push));
	new_item32(g, (const u8[]){0x9d}, 1)->joined = true;
}

/* lea rax, [there]; push rax; ret */
static void add_push_ret(struct generator *g)
{
	struct item *label = add_label(g, RAX);

	label->target = later(g, 3) + 1;
	new_item32(g, (const u8[]){0x50}, 1)->joined = true;
	new_item32(g, (const u8[]){0xc3}, 1)->joined = true;
}

/* mov ecx, few; body: xadd rdx, rbx; loop body */
static void add_loop(struct generator *g)
{
	u8 mov[5] = {0xb9, below(g, 20) + 1};
	u8 body;
	static const u8 xadd[4] = {0x48, 0x0f, 0xc1, 0xda};
	struct item *item;

	new_item32(g, mov, sizeof(mov));
	body = g->sequence->count;
	new_item(g, xadd + g->compat, sizeof(xadd) - g->compat)->joined = true;
	item = new_item(g, (const u8[]){0xe0 + below(g, 3), 0}, 2);
	item->joined = true;
	item->exact = true;
	item->fixup = 1;
	item->fixup_length = 1;
	item->target = body;
	g->changed |= 1u << RCX | 1u << RDX | 1u << RBX;
}

static const struct form *pick_form(struct generator *g)
{
	static const u8 weights[FORM_CLASSES] = {
		[FORM_INTEGER] = 40, [FORM_STRING] = 5,	    [FORM_STACK] = 7, [FORM_BRANCH] = 8,
		[FORM_X87] = 7,	     [FORM_MMX] = 4,	    [FORM_SSE] = 9,   [FORM_VEX] = 9,
		[FORM_EVEX] = 10,    [FORM_PRIVILEGED] = 1,
	};
	const struct forms *forms = g->forms;
	unsigned class = 0;
	u64 at = below(g, 100);

	if (percent(g, 3)) { /* any, the odd ones too */
		const struct form *form = &forms->all[below(g, forms->count)];

		return form->class == FORM_SYSTEM ? &forms->all[0] : form;
	}
	while (at >= weights[class])
		at -= weights[class ++];
	if (!forms->class_count[class])
		class = FORM_INTEGER;
	return &forms->all[forms->class[class][below(g, forms->class_count[class])]];
}

/*
 * mov dword [there], imm32; something; there: mov ecx, imm32, or four bytes of nothing that
 * become inc rbx; nop. It works in the half of the code that can be written, else it faults.
 */
static void add_patch(struct generator *g)
{
	bool whole = percent(g, 50);
	u8 store[10] = {0xc7, 0x05, 0, 0, 0, 0, 0x48, 0xff, 0xc3, 0x90};
	u8 index = g->sequence->count;
	struct item *item;

	new_item(g, store, sizeof(store));
	if (percent(g, 50))
		while (!add_instance(g, pick_form(g)))
			;
	item = &g->sequence->items[index];
	item->target = g->sequence->count;
	item->exact = true;
	item->into = whole ? 0 : 1;
	item->absolute = g->compat;
	item->base = g->base;
	item->fixup = 2;
	item->fixup_length = 4;
	if (whole)
		new_item(g, (const u8[]){0x0f, 0x1f, 0x40, 0x00}, 4);
	else
		new_item(g, (const u8[]){0xb9, 1, 2, 3, 4}, 5);
	g->changed |= 1u << RCX | 1u << RBX;
}

static void add_something(struct generator *g)
{
	switch (below(g, 100)) {
	case 0 ... 4:
		add_pointer(g);
		return;
	case 5:
		add_popf(g);
		return;
	case 6:
		add_push_ret(g);
		return;
	case 7:
		add_loop(g);
		return;
	case 8:
		if (!g->narrow) {
			add_patch(g);
			return;
		}
		break;
	default:
		break;
	}
	while (!add_instance(g, pick_form(g)))
		;
}

/* ------------------------------------------------------------------ layout */

static u64 item_address(const struct sequence *sequence, u8 target, bool exact)
{
	target = MIN(target, sequence->count - 1u);
	while (!exact && sequence->items[target].joined)
		target++;
	return CODE_BASE + sequence->items[target].offset;
}

static void place_items(struct sequence *sequence)
{
	u32 offset = sequence->code_offset;

	for (unsigned i = 0; i < sequence->count; i++) {
		sequence->items[i].offset = offset;
		if (!sequence->items[i].dropped)
			offset += sequence->items[i].length;
	}
	sequence->code_length = offset - sequence->code_offset;
}

static void fix_item(const struct sequence *sequence, struct item *item)
{
	u64 next = CODE_BASE + item->offset + item->length;
	u64 to = item->target == ITEM_NONE ? item->address
					   : item_address(sequence, item->target, item->exact);
	s64 distance = (s64)(to + item->into - (item->absolute ? item->base : next));

	if (item->fixup_length == 1 && distance != (signed char)distance)
		distance = 0;
	memcpy(item->bytes + item->fixup, &distance, item->fixup_length);
}

/* The code segment ends behind all of it, or where nobody expects it. */
static void limit_code(struct generator *g)
{
	struct sequence *sequence = g->sequence;
	struct local *code = &sequence->local[LOCAL_CS];

	sequence->initial.rip -= code->base;
	code->limit = percent(g, 80) ? UINT16_MAX
				     : sequence->initial.rip + below(g, sequence->code_length + 8);
}

static void finish(struct generator *g, u64 drop)
{
	struct sequence *sequence = g->sequence;
	unsigned total = UD2_LENGTH;

	for (unsigned i = 0; i < sequence->count; i++)
		total += sequence->items[i].length;
	new_item(g, (const u8[]){0x0f, 0x0b}, UD2_LENGTH);
	/* Somewhere; over the end of a page; or over the end of all code. */
	sequence->code_offset = below(g, CODE_PAGES * PAGE_SIZE - total);
	if (percent(g, 30))
		sequence->code_offset = PAGE_SIZE - below(g, total);
	else if (percent(g, 3))
		sequence->code_offset = CODE_PAGES * PAGE_SIZE - 1 - below(g, total);
	for (unsigned i = 0; i < sequence->count - 1; i++)
		sequence->items[i].dropped =
			sequence->items[i].joined ? sequence->items[i - 1].dropped : drop >> i & 1;
	place_items(sequence);
	for (unsigned i = 0; i < sequence->count; i++) {
		struct item *item = &sequence->items[i];

		if (item->dropped)
			continue;
		if (item->fixup_length)
			fix_item(sequence, item);
		memcpy(sequence->code + (item->offset - sequence->code_offset), item->bytes,
		       item->length);
	}
	sequence->code_length =
		MIN(sequence->code_length, (u32)(CODE_PAGES * PAGE_SIZE) - sequence->code_offset);
	for (unsigned i = 0; i < sequence->planted_count; i++) {
		u64 to = item_address(sequence, sequence->planted[i].target, false) -
			 sequence->local[LOCAL_CS].base;

		for (unsigned byte = 0; byte < 8; byte++)
			*sequence_memory(sequence->memory, sequence->planted[i].address + byte) =
				to >> 8 * byte;
	}
	sequence->initial.rip = CODE_BASE + sequence->code_offset;
	if (sequence->segmented)
		limit_code(g);
}

static void add_named(struct generator *g, const struct named *which)
{
	const u8 *at = which->code;

	while (at < which->end) {
		ZydisDecodedInstruction insn;

		/* The assembler made it: there is nothing that is no instruction. */
		if (ZYAN_FAILED(ZydisDecoderDecodeInstruction(&g->forms->decoder, NULL, at,
							      which->end - at, &insn)))
			abort();
		new_item(g, at, insn.length);
		at += insn.length;
	}
}

void generate(const struct forms *forms, const struct job *job, struct sequence *sequence)
{
	struct generator g = {.forms = forms,
			      .sequence = sequence,
			      .alone = job->form >= 0,
			      .compat = forms->compat,
			      .narrow = forms->narrow};
	u64 gpr[16];

	g.random.state = job->seed;
	g.random.state = random_u64(&g.random) + job->form; /* neighbours have nothing in common */
	g.random.state = random_u64(&g.random);
	sequence->compat = forms->compat;
	sequence->narrow = forms->narrow;
	sequence->segmented = false;
	memset(sequence->local, 0, sizeof(sequence->local));
	sequence->count = sequence->planted_count = 0;
	if (g.narrow || (g.compat && !job->named && percent(&g, 20)))
		choose_segments(&g);
	begin_state(&g);
	memcpy(gpr, sequence->initial.gpr, sizeof(gpr));
	if (job->named) {
		add_named(&g, job->named);
	} else if (job->form >= 0) {
		for (unsigned tries = 0; tries < 100; tries++)
			if (add_instance(&g, &forms->all[job->form]))
				break;
	} else {
		unsigned length = 1 + below(&g, 20);

		while (sequence->count < length)
			add_something(&g);
		/* add_pointer() wrote there what will be. */
		memcpy(sequence->initial.gpr, gpr, sizeof(gpr));
	}
	finish(&g, job->drop);
}

void sequence_code(const struct sequence *sequence, u8 image[CODE_PAGES * PAGE_SIZE])
{
	memset(image, 0xcc, CODE_PAGES * PAGE_SIZE);
	memcpy(image + sequence->code_offset, sequence->code, sequence->code_length);
}

/* ------------------------------------------------------------------ garbage */

void generate_garbage(const struct forms *forms, u64 seed, struct sequence *sequence, u8 *bytes)
{
	const unsigned length = CODE_PAGES * PAGE_SIZE;
	struct generator g = {.forms = forms, .sequence = sequence, .random.state = seed};
	unsigned at = 0, noise;

	g.random.state = random_u64(&g.random);
	noise = below(&g, 100); /* so much of it */

	sequence->count = sequence->planted_count = 0;
	begin_state(&g);
	while (at < length) {
		struct draft d = {.g = &g, .target = pick_address(&g, 8)};
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
		unsigned room = length - at;

		d.form = &forms->all[below(&g, forms->count)];
		if (percent(&g, noise)) {
			bytes[at++] = random_u64(&g.random);
		} else if (draft_make(&d, &insn, operands)) {
			memcpy(bytes + at, d.bytes, MIN(room, insn.length));
			at += MIN(room, insn.length);
		}
	}
}
