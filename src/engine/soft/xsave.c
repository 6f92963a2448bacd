/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * XSAVE, XRSTOR and their relatives: between the guest's memory and the saved image of its vector
 * and x87 state (fpu.c), component by component.
 *
 * C executes them because an image says where the last x87 instruction was, and because the
 * silicon remembers where it last wrote one, and knows only host addresses. So XSAVEOPT and XSAVES
 * leave out what is in its initial state, and never what was not modified since: the manual
 * lets them. All of them are there on any host.
 *
 * There are no supervisor components: XSAVES is XSAVEC for the kernel, IA32_XSS is 0.
 *
 * Tour 6.840: XSAVE and its relatives
 */
#include "engine/soft/fpu.h"
#include "engine/soft/system.h"

#include <Zydis/Mnemonic.h>

/* Intel SDM volume 1, "XSAVE Header": in XCOMP_BV, the compacted format. */
#define COMPACTED (1ull << 63)

#define COMPONENT_LAST PKRU

/* Bytes of the longest component, ZMM16 to ZMM31. */
#define COMPONENT_MAX 1024

/* SDM volume 1, "Operation of XSAVE": RFBM. */
static u64 requested(const struct vcpu *vcpu)
{
	u64 mask = (u32)vcpu->ctx.gpr[RAX] | vcpu->ctx.gpr[RDX] << 32;

	return mask & vcpu->xcr0;
}

/*
 * What of a component behind the header is in memory. The upper halves of XMM8 and the following
 * are there in 64-bit mode only, and so are ZMM16 to ZMM31.
 */
static unsigned component_length(const struct vcpu *vcpu, unsigned component)
{
	const unsigned length = vcpu->soft->cpuid.xsave.length[component];

	if (component == PKRU)
		return sizeof(vcpu->pkru); /* and four bytes that are left alone */
	if (component == OPMASK || vcpu_64bit(vcpu))
		return length;
	return component == ZMM_16 ? 0 : length / 2;
}

/* Where each component is in an image with those components: see "Extended Region of an XSAVE
 * Area". */
struct places {
	u32 offset[COMPONENT_LAST + 1];
	u32 end;
};

static struct places places_of(const struct vcpu *vcpu, u64 xcomp_bv)
{
	const struct xsave_layout *layout = &vcpu->soft->cpuid.xsave;
	struct places places = {.end = LEGACY_SIZE};

	for (unsigned i = AVX; i <= COMPONENT_LAST; i++) {
		if (!(xcomp_bv & COMPACTED)) {
			places.offset[i] = layout->offset[i];
			continue;
		}
		if (!(xcomp_bv >> i & 1))
			continue;
		if (layout->aligned >> i & 1)
			places.end = align_up(places.end, XSAVE_ALIGN);
		places.offset[i] = places.end;
		places.end += layout->length[i];
	}
	return places;
}

/*
 * SDM volume 1, "XSAVE-Managed State": XINUSE, as the host's XSAVE has found it. Outside 64-bit
 * mode ZMM16 and the following are initial, whatever is in them.
 */
static u64 in_use(struct vcpu *vcpu)
{
	u64 components = fpu_image(vcpu)->xstate_bv & ~(u64)COMPONENT_PKRU;

	if (vcpu->pkru)
		components |= COMPONENT_PKRU;
	return vcpu_64bit(vcpu) ? components : components & ~(1ull << ZMM_16);
}

/* XGETBV with ECX = 1. What MXCSR holds counts for SSE here. */
u64 fpu_in_use(struct vcpu *vcpu)
{
	u64 components = in_use(vcpu);

	if (fpu_image(vcpu)->mxcsr != MXCSR_INIT)
		components |= COMPONENT_SSE;
	return components & vcpu->xcr0;
}

/* ------------------------------------------------------------------ XSAVE and the like */

/* What is about to be written, and where. */
struct saving {
	const struct insn *insn;
	u64 address;
	u64 components; /* these are written, */
	u64 initial;	/* of those, these as initial: XSAVE has no image of them */
	bool mxcsr;
	struct places places;
};

/* Pieces of the legacy region and the header, which each belong to somebody. */
#define HEADER_AT    offsetof(struct image, xstate_bv)
#define HEADER_BYTES (LEGACY_SIZE - HEADER_AT)
#define X87_BYTES    offsetof(struct image, mxcsr) /* and the registers */
#define MXCSR_AT     offsetof(struct image, mxcsr)
#define MXCSR_BYTES  8 /* with its mask */
#define STACK_AT     offsetof(struct image, st)
#define STACK_BYTES  sizeof(((struct image *)NULL)->st)
#define XMM_AT	     offsetof(struct image, xmm)

static bool probe_component(struct vcpu *vcpu, const struct saving *saving, unsigned component)
{
	const unsigned length = component_length(vcpu, component);
	u64 address;

	return insn_access(vcpu, saving->insn, saving->places.offset[component], length,
			   ACCESS_WRITE, &address) &&
	       mem_probe(vcpu, address, length, ACCESS_WRITE);
}

/* Before the first byte is written. What is not written need not be there. */
static bool probe_image(struct vcpu *vcpu, const struct saving *saving)
{
	const u64 at = saving->address;

	if (!mem_probe(vcpu, at + HEADER_AT, HEADER_BYTES, ACCESS_WRITE))
		return false;
	if (saving->components & COMPONENT_X87 &&
	    (!mem_probe(vcpu, at, X87_BYTES, ACCESS_WRITE) ||
	     !mem_probe(vcpu, at + STACK_AT, STACK_BYTES, ACCESS_WRITE)))
		return false;
	if (saving->mxcsr && !mem_probe(vcpu, at + MXCSR_AT, MXCSR_BYTES, ACCESS_WRITE))
		return false;
	if (saving->components & COMPONENT_SSE &&
	    !mem_probe(vcpu, at + XMM_AT, fpu_vector_bytes(vcpu), ACCESS_WRITE))
		return false;
	for (unsigned i = AVX; i <= COMPONENT_LAST; i++)
		if (saving->components >> i & 1 && !probe_component(vcpu, saving, i))
			return false;
	return true;
}

static bool store_component(struct vcpu *vcpu, const struct saving *saving, unsigned component)
{
	static const u8 zeros[COMPONENT_MAX];
	const void *from = zeros;

	if (component == PKRU)
		from = &vcpu->pkru;
	else if (!(saving->initial >> component & 1))
		from = fpu_component(vcpu, component);
	return mem_write(vcpu, saving->address + saving->places.offset[component], from,
			 component_length(vcpu, component), ACCESS_WRITE);
}

static bool store_image(struct vcpu *vcpu, const struct saving *saving)
{
	const struct image *image = fpu_image(vcpu);

#define STORE(first, length)                                                                       \
	mem_write(vcpu, saving->address + offsetof(struct image, first), &image->first, length,    \
		  ACCESS_WRITE)
	if (saving->components & COMPONENT_X87 &&
	    (!STORE(fcw, offsetof(struct image, mxcsr)) || !STORE(st, sizeof image->st)))
		return false;
	if (saving->mxcsr && !STORE(mxcsr, 8))
		return false;
	if (saving->components & COMPONENT_SSE && !STORE(xmm, fpu_vector_bytes(vcpu)))
		return false;
#undef STORE
	for (unsigned i = AVX; i <= COMPONENT_LAST; i++)
		if (saving->components >> i & 1 && !store_component(vcpu, saving, i))
			return false;
	return true;
}

/* XSAVE, and XSAVEOPT: in the standard format. */
bool fpu_xsave(struct vcpu *vcpu, const struct insn *insn)
{
	const bool optimized = insn->mnemonic == ZYDIS_MNEMONIC_XSAVEOPT ||
			       insn->mnemonic == ZYDIS_MNEMONIC_XSAVEOPT64;
	const u64 mask = requested(vcpu);
	struct saving saving = {
		.insn = insn,
		.components = mask,
		.mxcsr = mask & (COMPONENT_SSE | COMPONENT_AVX),
		.places = places_of(vcpu, 0),
	};
	u64 used, xstate_bv;

	if (!fpu_xsave_available(vcpu) ||
	    !fpu_image_address(vcpu, insn, XSAVE_ALIGN, LEGACY_SIZE, ACCESS_WRITE, &saving.address))
		return false;
	used = in_use(vcpu);
	if (optimized)
		saving.components &= used;
	/* The others are there whatever XSTATE_BV says. */
	saving.initial = ~used & COMPONENTS_AVX512;
	if (!probe_image(vcpu, &saving) ||
	    !mem_read(vcpu, saving.address + offsetof(struct image, xstate_bv), &xstate_bv, 8,
		      ACCESS_READ) ||
	    !store_image(vcpu, &saving))
		return false;
	xstate_bv = (xstate_bv & ~mask) | (used & mask);
	return mem_write(vcpu, saving.address + offsetof(struct image, xstate_bv), &xstate_bv, 8,
			 ACCESS_WRITE);
}

static bool is_for_kernel(const struct insn *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
		return true;
	default:
		return false;
	}
}

/* XSAVEC, and XSAVES: in the compacted format, in which MXCSR is a part of SSE. */
bool fpu_xsavec(struct vcpu *vcpu, const struct insn *insn)
{
	const u64 mask = requested(vcpu);
	struct saving saving = {.insn = insn, .places = places_of(vcpu, COMPACTED | mask)};
	u64 header[2];

	if (!fpu_xsave_available(vcpu) || (is_for_kernel(insn) && !system_privileged(vcpu)) ||
	    !fpu_image_address(vcpu, insn, XSAVE_ALIGN, LEGACY_SIZE, ACCESS_WRITE, &saving.address))
		return false;
	saving.components = mask & fpu_in_use(vcpu);
	saving.mxcsr = saving.components & COMPONENT_SSE;
	header[0] = saving.components;
	header[1] = mask | COMPACTED;
	return probe_image(vcpu, &saving) && store_image(vcpu, &saving) &&
	       mem_write(vcpu, saving.address + offsetof(struct image, xstate_bv), header,
			 sizeof(header), ACCESS_WRITE);
}

/* ------------------------------------------------------------------ XRSTOR and the like */

/*
 * SDM volume 1, "Operation of XRSTOR": the header of the standard form, and of the compacted one;
 * XRSTORS knows only that.
 */
static bool header_valid(const struct vcpu *vcpu, const struct image *from, bool compacted_only)
{
	u64 reserved = 0;

	if (from->xstate_bv & ~vcpu->xcr0)
		return false;
	if (!(from->xcomp_bv & COMPACTED))
		return !compacted_only && !from->xcomp_bv && !from->header[0];
	for (unsigned i = 0; i < ARRAY_SIZE(from->header); i++)
		reserved |= from->header[i];
	return !reserved && !(from->xcomp_bv & ~(vcpu->xcr0 | COMPACTED)) &&
	       !(from->xstate_bv & ~from->xcomp_bv);
}

/* What is wanted of the legacy region, and no more of it. */
static bool read_legacy(struct vcpu *vcpu, u64 address, struct image *from, u64 components,
			bool mxcsr)
{
	if (components & COMPONENT_X87 &&
	    (!mem_read(vcpu, address, from, X87_BYTES, ACCESS_READ) ||
	     !mem_read(vcpu, address + STACK_AT, from->st, STACK_BYTES, ACCESS_READ)))
		return false;
	if (mxcsr && !mem_read(vcpu, address + MXCSR_AT, &from->mxcsr, MXCSR_BYTES, ACCESS_READ))
		return false;
	return !(components & COMPONENT_SSE) ||
	       mem_read(vcpu, address + XMM_AT, from->xmm, fpu_vector_bytes(vcpu), ACCESS_READ);
}

/* The components behind the header, as they shall be. */
struct extended {
	u8 component[COMPONENT_LAST + 1][COMPONENT_MAX];
};

/* Read them all, before the first one is loaded. Those that are initial are 0. */
static bool read_extended(struct vcpu *vcpu, const struct insn *insn, const struct image *from,
			  u64 mask, struct extended *extended)
{
	const struct places places = places_of(vcpu, from->xcomp_bv);
	u64 address;

	for (unsigned i = AVX; i <= COMPONENT_LAST; i++) {
		const unsigned length = component_length(vcpu, i);

		if (!(mask >> i & 1))
			continue;
		if (!(from->xstate_bv >> i & 1))
			fpu_clear(extended->component[i], length);
		else if (!insn_access(vcpu, insn, places.offset[i], length, ACCESS_READ,
				      &address) ||
			 !mem_read(vcpu, address, extended->component[i], length, ACCESS_READ))
			return false;
	}
	return true;
}

/* The initial state instead of what memory has. */
void fpu_make_initial(struct image *from, u64 components)
{
	if (components & COMPONENT_X87) {
		fpu_clear(from, offsetof(struct image, mxcsr));
		fpu_clear(from->st, sizeof from->st);
		from->fcw = FCW_INIT;
	}
	if (components & COMPONENT_SSE) {
		fpu_clear(from->xmm, sizeof from->xmm);
		if (from->xcomp_bv & COMPACTED)
			from->mxcsr = MXCSR_INIT;
	}
}

static void load_components(struct vcpu *vcpu, struct image *from, struct extended *extended,
			    u64 mask, bool mxcsr)
{
	struct image *image = fpu_image(vcpu);
	const u64 initial = mask & ~from->xstate_bv;

	fpu_make_initial(from, initial);
	if (mask & COMPONENT_X87)
		fpu_load_x87(image, from);
	if (mask & COMPONENT_SSE)
		fpu_load_sse(vcpu, image, from);
	if (mxcsr)
		image->mxcsr = from->mxcsr;
	for (unsigned i = AVX; i <= ZMM_16; i++)
		/* What is initial and stays so needs nothing. */
		if (mask >> i & 1 && (i == AVX || (image->xstate_bv | from->xstate_bv) >> i & 1))
			fpu_copy(fpu_component(vcpu, i), extended->component[i],
				 component_length(vcpu, i));

	if (mask & COMPONENT_PKRU) {
		u32 pkru;

		__builtin_memcpy(&pkru, extended->component[PKRU], sizeof(pkru));
		mmu_set_pkru(vcpu, pkru);
	}

	/* Components that are initial again are called so, as long as no half of one is kept. */
	image->xstate_bv |= mask & from->xstate_bv & ~(u64)COMPONENT_PKRU;
	if (vcpu_64bit(vcpu))
		image->xstate_bv &= ~initial;
}

bool fpu_xrstor(struct vcpu *vcpu, const struct insn *insn)
{
	u64 mask = requested(vcpu), address;
	struct extended extended;
	struct image from;
	bool mxcsr;

	if (!fpu_xsave_available(vcpu) || (is_for_kernel(insn) && !system_privileged(vcpu)) ||
	    !fpu_image_address(vcpu, insn, XSAVE_ALIGN, LEGACY_SIZE, ACCESS_READ, &address) ||
	    !mem_read(vcpu, address + HEADER_AT, (u8 *)&from + HEADER_AT, HEADER_BYTES,
		      ACCESS_READ))
		return false;
	if (!header_valid(vcpu, &from, is_for_kernel(insn)))
		return raise_error(vcpu, VECTOR_GP, 0);
	/* In the standard format MXCSR is loaded whatever XSTATE_BV says; else it is a part of SSE.
	 */
	mxcsr = mask & (COMPONENT_SSE | COMPONENT_AVX);
	if (from.xcomp_bv & COMPACTED)
		mxcsr = mask & from.xstate_bv & COMPONENT_SSE;
	if (!read_legacy(vcpu, address, &from, mask & from.xstate_bv, mxcsr))
		return false;
	if (mxcsr && !fpu_mxcsr_valid(vcpu, from.mxcsr))
		return raise_error(vcpu, VECTOR_GP, 0);
	/* Initial, with all of SSE. */
	if (from.xcomp_bv & COMPACTED)
		mxcsr = mask & COMPONENT_SSE;
	/* ZMM16 and the following stay as they are outside 64-bit mode. */
	if (!vcpu_64bit(vcpu))
		mask &= ~(1ull << ZMM_16);
	if (!read_extended(vcpu, insn, &from, mask, &extended))
		return false;

	load_components(vcpu, &from, &extended, mask, mxcsr);
	vectors_restore(vcpu);
	return true;
}
