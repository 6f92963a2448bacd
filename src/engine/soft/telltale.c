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
#include "engine/soft/fpu.h"

#include <Zydis/Zydis.h>

/*
 * VMCALL and VMMCALL, XGETBV, RDPKRU and WRPKRU; LSL, by which Linux tells users their CPU, and all
 * else that looks at descriptor tables; SYSENTER; XSAVE and its like, whose layout depends on the
 * host's XCR0; RDPID. Wherever the bytes are: they need not be an instruction. RDTSC faults
 * (cell_stub.c), and CPUID on some processors.
 *
 * Tour 6.1071, 20 lines
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

/* Decoding from there on, is the byte at `at` an opcode, behind no more than prefixes? */
static bool leads_to(const ZydisDecoder *decoder, const u8 *code, unsigned size, unsigned from,
		     unsigned at)
{
	ZydisDecodedInstruction insn;
	unsigned i = from, next = from;

	while (next <= at) {
		i = next;
		next += ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(decoder, NULL, code + i,
								   size - i, &insn))
				? insn.length
				: 1;
	}
	while (i < at && is_prefix(code[i]))
		i++;
	return i == at;
}

/* So many sweeps begin, one byte after the other, so far before what they are about. */
#define SWEEPS	   16
#define SWEEP_FROM 64

/*
 * Are the bytes at `at` an instruction that tells, or part of another's? Decoders fall into step
 * with code within some instructions, wherever they begin: so most of them agree.
 */
static bool tells_at(const u8 *code, unsigned size, unsigned at, bool cpuid)
{
	unsigned from = at > SWEEP_FROM ? at - SWEEP_FROM : 0, sweeps = MIN(SWEEPS, at + 1);
	ZydisDecoder decoder;
	unsigned found = 0;

	if (!tells_of_host(code + at, cpuid))
		return false;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < sweeps; i++)
		found += leads_to(&decoder, code, size, from + i, at);
	return found > sweeps / 2;
}

/* What comes behind the first byte of an opcode, as far as tells_of_host() looks. */
#define REST 2

/* Where the pages on either side say what the bytes are. */
#define HEAD SWEEP_FROM
#define TAIL (PAGE_SIZE - REST)

enum bare_code page_tells_of_host(const u8 *page, bool cpuid)
{
	bool edges = false;

	for (unsigned i = 0; i < TAIL; i++) {
		if (i < HEAD)
			edges |= tells_of_host(page + i, cpuid);
		else if (tells_at(page, PAGE_SIZE, i, cpuid))
			return BARE_CODE_REFUSED;
	}
	edges |= page[TAIL] == 0x0f || page[TAIL + 1] == 0x0f;
	return edges ? BARE_CODE_DEPENDS : BARE_CODE_FINE;
}

/* What is not there is not code: it says nothing of where instructions begin. */
static bool head_tells(const u8 *before, const u8 *page, bool cpuid)
{
	u8 code[SWEEP_FROM + HEAD + REST];
	unsigned lead = before ? SWEEP_FROM : 0;

	if (before)
		fpu_copy(code, before + PAGE_SIZE - lead, lead);
	fpu_copy(code + lead, page, HEAD + REST);
	for (unsigned i = lead; i < lead + HEAD; i++)
		if (tells_at(code, lead + HEAD + REST, i, cpuid))
			return true;
	return false;
}

/* What is not there may become anything. */
static bool tail_tells(const u8 *page, const u8 *after, bool cpuid)
{
	u8 code[SWEEP_FROM + REST + REST];

	if (!after)
		return page[TAIL] == 0x0f || page[TAIL + 1] == 0x0f;
	fpu_copy(code, page + TAIL - SWEEP_FROM, SWEEP_FROM + REST);
	fpu_copy(code + SWEEP_FROM + REST, after, REST);
	return tells_at(code, sizeof(code), SWEEP_FROM, cpuid) ||
	       tells_at(code, sizeof(code), SWEEP_FROM + 1, cpuid);
}

bool page_edges_tell(const u8 *before, const u8 *page, const u8 *after, bool cpuid)
{
	return head_tells(before, page, cpuid) || tail_tells(page, after, cpuid);
}
