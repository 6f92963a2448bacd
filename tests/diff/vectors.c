/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector and x87 registers to and from an XSAVE image: a signal frame's, or the one
 * that the engine keeps. Intel SDM volume 1, "The XSAVE Area": a component whose bit
 * in XSTATE_BV is clear is in its initial state, whatever the image holds.
 */
#include "diff.h"

#include <cpuid.h>
#include <string.h>

#define OFFSET_CONTROL	 0
#define OFFSET_STATUS	 2
#define OFFSET_TAGS	 4
#define OFFSET_LAST_X87	 6 /* opcode, instruction pointer, data pointer */
#define OFFSET_MXCSR	 24
#define OFFSET_X87	 32
#define OFFSET_XMM	 160
#define OFFSET_XSTATE_BV 512
#define OFFSET_YMM	 576

#define CONTROL_INITIAL 0x37f

#define LEAF_XSAVE 0xd

enum { OPMASK = 5, ZMM_HIGH, ZMM_16 };
enum { COMPONENT_X87 = 1, COMPONENT_SSE = 2, COMPONENT_AVX = 4, COMPONENTS_AVX512 = 0xe0 };

static u32 component_offset(unsigned component)
{
	unsigned size, offset, c, d;

	__cpuid_count(LEAF_XSAVE, component, size, offset, c, d);
	return offset;
}

/* As all of this takes time on a CPU that is virtual, it is asked once. */
struct layout layout_of_cpu(void)
{
	return (struct layout){
		.avx512 = __builtin_cpu_supports("avx512bw"),
		.mask = component_offset(OPMASK),
		.higher = component_offset(ZMM_HIGH),
		.upper = component_offset(ZMM_16),
	};
}

void vectors_to_xsave(const struct layout *layout, const struct vectors *vectors, u8 *image)
{
	u64 components;

	memcpy(image + OFFSET_CONTROL, &vectors->control, 2);
	memcpy(image + OFFSET_STATUS, &vectors->status, 2);
	image[OFFSET_TAGS] = vectors->tags;
	image[OFFSET_TAGS + 1] = 0;
	memset(image + OFFSET_LAST_X87, 0, OFFSET_MXCSR - OFFSET_LAST_X87);
	memcpy(image + OFFSET_MXCSR, &vectors->mxcsr, 4);
	for (unsigned i = 0; i < 8; i++) {
		memset(image + OFFSET_X87 + 16 * i, 0, 16);
		memcpy(image + OFFSET_X87 + 16 * i, vectors->x87[i], 10);
	}
	memcpy(image + OFFSET_XMM, vectors->low, sizeof(vectors->low));
	memcpy(image + OFFSET_YMM, vectors->high, sizeof(vectors->high));
	memcpy(&components, image + OFFSET_XSTATE_BV, 8);
	components |= COMPONENT_X87 | COMPONENT_SSE | COMPONENT_AVX;
	if (layout->avx512) {
		memcpy(image + layout->mask, vectors->mask, sizeof(vectors->mask));
		memcpy(image + layout->higher, vectors->higher, sizeof(vectors->higher));
		memcpy(image + layout->upper, vectors->upper, sizeof(vectors->upper));
		components |= COMPONENTS_AVX512;
	}
	memcpy(image + OFFSET_XSTATE_BV, &components, 8);
}

void vectors_from_xsave(const struct layout *layout, struct vectors *vectors, const u8 *image)
{
	u64 components;

	*vectors = (struct vectors){.control = CONTROL_INITIAL};
	memcpy(&components, image + OFFSET_XSTATE_BV, 8);
	memcpy(&vectors->mxcsr, image + OFFSET_MXCSR, 4);
	if (components & COMPONENT_X87) {
		memcpy(&vectors->control, image + OFFSET_CONTROL, 2);
		memcpy(&vectors->status, image + OFFSET_STATUS, 2);
		vectors->tags = image[OFFSET_TAGS];
		for (unsigned i = 0; i < 8; i++)
			memcpy(vectors->x87[i], image + OFFSET_X87 + 16 * i, 10);
	}
	if (components & COMPONENT_SSE)
		memcpy(vectors->low, image + OFFSET_XMM, sizeof(vectors->low));
	if (components & COMPONENT_AVX)
		memcpy(vectors->high, image + OFFSET_YMM, sizeof(vectors->high));
	if (!layout->avx512)
		return;
	if (components & 1u << OPMASK)
		memcpy(vectors->mask, image + layout->mask, sizeof(vectors->mask));
	if (components & 1u << ZMM_HIGH)
		memcpy(vectors->higher, image + layout->higher, sizeof(vectors->higher));
	if (components & 1u << ZMM_16)
		memcpy(vectors->upper, image + layout->upper, sizeof(vectors->upper));
}
