/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's vector and x87 state as an image in memory: between fpu.c, which takes it out of the
 * host's registers, xsave.c, which copies it to and from the guest's memory, and elements.c, which
 * changes single elements.
 *
 * Tour 6.820: Vectors, when they are not at home
 */
#ifndef ENGINE_SOFT_FPU_H
#define ENGINE_SOFT_FPU_H

#include "engine/soft/internal.h"

#include <stddef.h>

/* Intel SDM volume 1, "XSAVE-Supported Features and State-Component Bitmaps". */
enum component {
	X87,
	SSE,
	AVX, /* the upper halves of YMM0 to YMM15 */
	OPMASK = 5,
	ZMM_HIGH, /* the upper halves of ZMM0 to ZMM15 */
	ZMM_16,	  /* ZMM16 to ZMM31 */
	PKRU = 9, /* not in the saved image: in struct vcpu */
};

#define COMPONENT_X87	  (1u << X87)
#define COMPONENT_SSE	  (1u << SSE)
#define COMPONENT_AVX	  (1u << AVX)
#define COMPONENT_PKRU	  (1u << PKRU)
#define COMPONENTS_AVX512 (1u << OPMASK | 1u << ZMM_HIGH | 1u << ZMM_16)

/* Which there are on every host; and where. */
#define COMPONENTS_ALWAYS (COMPONENT_X87 | COMPONENT_SSE | COMPONENT_AVX)

/*
 * SDM volume 1, "XSAVE Area", standard format: FXSAVE's image, then the header, then AVX. The
 * components behind that are where the host's CPUID says: struct xsave_layout.
 */
struct image {
	u16 fcw, fsw;
	u8 ftw, reserved;
	u16 fop;
	u64 fip, fdp;
	u32 mxcsr, mxcsr_mask;
	u8 st[8][16]; /* from the top of the stack on */
	u8 xmm[16][16];
	u8 unused[96];
	u64 xstate_bv, xcomp_bv, header[6];
	u8 ymm_high[16][16];
};

#define FXSAVE_SIZE  offsetof(struct image, xstate_bv)
#define LEGACY_SIZE  offsetof(struct image, ymm_high) /* with the header: the least of XSAVE's */
#define FXSAVE_ALIGN 16
#define XSAVE_ALIGN  64

/* SDM volume 1, "x87 FPU Control Word" after FNINIT; "MXCSR Register State". */
#define FCW_INIT   0x37fu
#define MXCSR_INIT 0x1f80u

/* By hand, lest the compiler calls memcpy(): that uses the registers that we are here to save. */
static inline void fpu_copy(void *to, const void *from, u64 length)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length)::"memory");
}

static inline void fpu_clear(void *at, u64 length)
{
	asm volatile("rep stosb" : "+D"(at), "+c"(length) : "a"(0) : "memory");
}

/* AVX-512's, where guests are offered them; else none. */
static inline u64 fpu_avx512_components(const struct vcpu *vcpu)
{
	return vcpu->soft->cpuid.xsave.components & COMPONENTS_AVX512;
}

/*
 * The saved state, to be read and changed. XSAVE writes what is in its initial state
 * too, and so do we: all of it is always there, whatever XSTATE_BV says, but for AVX-512's
 * components, for which there is fpu_component().
 */
struct image *fpu_image(struct vcpu *vcpu);
/* One component of the saved state, in use from here on. */
u8 *fpu_component(struct vcpu *vcpu, enum component component);
/* Where byte `at` of vector register 0 to 31 is. No element lies on both sides of 16, or 32. */
u8 *fpu_vector_at(struct vcpu *vcpu, unsigned reg, unsigned at);
/* From that byte on it is 0, as every VEX and EVEX instruction leaves it. */
void fpu_clear_vector(struct vcpu *vcpu, unsigned reg, unsigned at);
/* From here on the image holds more than XSAVE found: these components. */
void fpu_changed(struct vcpu *vcpu, u64 components);

/* False: the exception that there is instead was recorded. */
bool fpu_x87_available(struct vcpu *vcpu);
bool fpu_sse_available(struct vcpu *vcpu);
bool fpu_avx_available(struct vcpu *vcpu);
bool fpu_avx512_available(struct vcpu *vcpu);
bool fpu_xsave_available(struct vcpu *vcpu);
/* The address of an image, or #GP where it is not aligned. */
bool fpu_image_address(struct vcpu *vcpu, const struct insn *insn, unsigned align, unsigned length,
		       enum access access, u64 *address);

bool fpu_mxcsr_valid(struct vcpu *vcpu, u32 mxcsr);
/* XMM8 to XMM15 are there in 64-bit mode only; other modes leave them alone in both directions. */
unsigned fpu_vector_bytes(const struct vcpu *vcpu);
/* x87 and SSE, as far as named: XRSTOR's initial values. */
void fpu_make_initial(struct image *image, u64 components); /* xsave.c */
void fpu_load_x87(struct image *image, const struct image *from);
void fpu_load_sse(struct vcpu *vcpu, struct image *image, const struct image *from);

#endif
