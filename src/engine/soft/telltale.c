/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which code must not run bare (bare.c): instructions that would tell the guest of the host's
 * processor, and that nothing makes fault. A page that has one is the translator's.
 *
 * It is only the guest's own view of things that is at stake, so a program that jumps into the
 * middle of its instructions to find out where it is may do so.
 *
 * Tour 6.1070: Code that would give us away
 */
#include "engine/soft/internal.h"

#include <Zydis/Zydis.h>

/*
 * VMCALL and VMMCALL, XGETBV, RDPKRU and WRPKRU; LSL, by which Linux tells users their CPU, and all
 * else that looks at descriptor tables; SYSENTER; XSAVE and its like, whose layout depends on the
 * host's XCR0; RDPID. Wherever the bytes are: they need not be an instruction. RDTSC faults
 * (cell_stub.c), and CPUID on some processors.
 */
static bool tells_of_host(const u8 *at, bool cpuid)
{
	unsigned reg;

	if (at[0] != 0x0f)
		return false;
	reg = at[2] >> 3 & 7;
	switch (at[1]) {
	case 0x01:
		if (at[2] < 0xc0)
			return reg == 0 || reg == 1 || reg == 4;
		return at[2] == 0xc1 || at[2] == 0xd0 || at[2] == 0xd9 || at[2] == 0xee ||
		       at[2] == 0xef || (at[2] >= 0xe0 && at[2] <= 0xe7);
	case 0x00:
		return reg != 2 && reg != 3 && reg < 6;
	case 0x02:
	case 0x03:
	case 0x34:
		return true;
	case 0xa2:
		return cpuid;
	case 0xae:
		return at[2] < 0xc0 && reg >= 4 && reg <= 6;
	case 0xc7:
		return (at[2] < 0xc0 && reg >= 3 && reg <= 5) || at[2] >= 0xf8;
	}
	return false;
}

static bool is_prefix(u8 byte)
{
	return (byte & 0xf0) == 0x40 || (byte & 0xe7) == 0x26 || (byte & 0xfc) == 0x64 ||
	       byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

/* Sweeps that begin at so many places before. */
#define SWEEPS	   8
#define SWEEP_FROM 24

/* Decoding from there on, is the byte at `at` an opcode, behind no more than prefixes? */
static bool leads_to(const ZydisDecoder *decoder, const u8 *page, unsigned from, unsigned at)
{
	ZydisDecodedInstruction insn;
	unsigned i = from, next = from;

	while (next <= at) {
		i = next;
		next += ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder, NULL, page + i,
								   PAGE_SIZE - i, &insn))
				? insn.length
				: 1;
	}
	while (i < at && is_prefix(page[i]))
		i++;
	return i == at;
}

/*
 * Are these bytes an instruction, or part of another's? Decoders fall into step with code within a
 * few instructions, wherever they begin: so most of them agree.
 */
static bool is_opcode(const u8 *page, unsigned at)
{
	ZydisDecoder decoder;
	unsigned found = 0;

	if (at < SWEEP_FROM)
		return true;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < SWEEPS; i++)
		found += leads_to(&decoder, page, at - SWEEP_FROM + i, at);
	return found > SWEEPS / 2;
}

/* The last two bytes of a page, if what goes on in the next were the worst that it can be. */
static bool may_tell(const u8 *page, unsigned at, bool cpuid)
{
	u8 second = at + 1 < PAGE_SIZE ? page[at + 1] : 0x34;

	return page[at] == 0x0f && (second <= 0x03 || second == 0x34 || second == 0xae ||
				    second == 0xc7 || (cpuid && second == 0xa2));
}

bool page_tells_of_host(const u8 *page, bool cpuid)
{
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		if ((i + 2 < PAGE_SIZE ? tells_of_host(page + i, cpuid)
				       : may_tell(page, i, cpuid)) &&
		    is_opcode(page, i))
			return true;
	return false;
}
