/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GDB's view of the registers: see registers.h.
 *
 * A row of the table is a register, or several of a kind. Most are just some bytes of struct
 * cpu_state or of the XSAVE area (Intel SDM 1, "Managing State Using the XSAVE Feature Set");
 * only the x87 tag word has to be worked out, because FXSAVE keeps one bit of it where GDB wants
 * two.
 *
 * The names of features, and of the registers in them, are GDB's ("Standard Target Features",
 * "i386 Features"). The last feature is ours: GDB shows what it does not know as it is.
 *
 * Tour 8.120
 */
#include "gdb/registers.h"

#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Intel SDM 1, "XSAVE-Supported Features and State-Component Bitmaps". */
enum component {
	X87 = 0,
	SSE = 1,
	AVX = 2,
	OPMASK = 5,
	ZMM_HIGH = 6,
	HIGH_16_ZMM = 7,
	PROTECTION_KEYS = 9,
	COMPONENTS = 64,
};

#define BIT(component) (1ull << (component))
#define CPUID_XSAVE    0xd

/* Intel SDM 1, "Legacy Region of an XSAVE Area", "XSAVE Header". */
enum legacy {
	AT_FCW = 0,
	AT_FSW = 2,
	AT_FTW = 4,
	AT_FOP = 6,
	AT_FIP = 8,
	AT_FIP_SEGMENT = 12,
	AT_FDP = 16,
	AT_FDP_SEGMENT = 20,
	AT_MXCSR = 24,
	AT_ST = 32,
	AT_XMM = 160,
	AT_XSTATE_BV = 512,
	ST_STRIDE = 16,
	XMM_STRIDE = 16,
	FCW_INITIAL = 0x37f,
	XSAVE_HEADER_END = 576,
};

enum place {
	IN_STATE, /* offset in struct cpu_state */
	IN_LEGACY,
	IN_COMPONENT,
	TAG_WORD,
};

struct gdb_register_row {
	const char *name; /* a number goes behind it, if there are several; `suffix` behind that */
	unsigned first, count;
	const char *suffix;
	unsigned bits;	  /* as GDB sees it */
	const char *type; /* GDB's, or of types[] below */
	enum place place;
	unsigned offset, bytes;	  /* where it really is; GDB sees zeros where that is less */
	enum component component; /* of IN_COMPONENT */
	unsigned stride;	  /* of several */
};

#define STATE(name, field, bits, type)                                                             \
	{                                                                                          \
		name, 0, 0, "", bits, type, IN_STATE, offsetof(struct cpu_state, field),           \
			MIN((bits) / 8, (unsigned)sizeof(((struct cpu_state *)NULL)->field)), 0, 0 \
	}
#define LEGACY(name, offset, bytes)                                                                \
	{                                                                                          \
		name, 0, 0, "", 32, "int32", IN_LEGACY, offset, bytes, 0, 0                        \
	}

static const struct gdb_register_row core[] = {
	STATE("rax", gpr[RAX], 64, "int64"),
	STATE("rbx", gpr[RBX], 64, "int64"),
	STATE("rcx", gpr[RCX], 64, "int64"),
	STATE("rdx", gpr[RDX], 64, "int64"),
	STATE("rsi", gpr[RSI], 64, "int64"),
	STATE("rdi", gpr[RDI], 64, "int64"),
	STATE("rbp", gpr[RBP], 64, "data_ptr"),
	STATE("rsp", gpr[RSP], 64, "data_ptr"),
	{"r", 8, 8, "", 64, "int64", IN_STATE, offsetof(struct cpu_state, gpr[8]), 8, 0, 8},
	STATE("rip", rip, 64, "code_ptr"),
	STATE("eflags", rflags, 32, "i386_eflags"),
	STATE("cs", cs.selector, 32, "int32"),
	STATE("ss", ss.selector, 32, "int32"),
	STATE("ds", ds.selector, 32, "int32"),
	STATE("es", es.selector, 32, "int32"),
	STATE("fs", fs.selector, 32, "int32"),
	STATE("gs", gs.selector, 32, "int32"),
	{"st", 0, 8, "", 80, "i387_ext", IN_LEGACY, AT_ST, 10, 0, ST_STRIDE},
	LEGACY("fctrl", AT_FCW, 2),
	LEGACY("fstat", AT_FSW, 2),
	{"ftag", 0, 0, "", 32, "int32", TAG_WORD, 0, 0, 0, 0},
	LEGACY("fiseg", AT_FIP_SEGMENT, 2),
	LEGACY("fioff", AT_FIP, 4),
	LEGACY("foseg", AT_FDP_SEGMENT, 2),
	LEGACY("fooff", AT_FDP, 4),
	LEGACY("fop", AT_FOP, 2),
};

static const struct gdb_register_row sse[] = {
	{"xmm", 0, 16, "", 128, "vec128", IN_LEGACY, AT_XMM, 16, 0, XMM_STRIDE},
	LEGACY("mxcsr", AT_MXCSR, 4),
};

static const struct gdb_register_row segments[] = {
	STATE("fs_base", fs.base, 64, "int64"),
	STATE("gs_base", gs.base, 64, "int64"),
};

static const struct gdb_register_row avx[] = {
	{"ymm", 0, 16, "h", 128, "uint128", IN_COMPONENT, 0, 16, AVX, 16},
};

static const struct gdb_register_row avx512[] = {
	{"xmm", 16, 16, "", 128, "vec128", IN_COMPONENT, 0, 16, HIGH_16_ZMM, 64},
	{"ymm", 16, 16, "h", 128, "uint128", IN_COMPONENT, 16, 16, HIGH_16_ZMM, 64},
	{"k", 0, 8, "", 64, "uint64", IN_COMPONENT, 0, 8, OPMASK, 8},
	{"zmm", 0, 16, "h", 256, "v2ui128", IN_COMPONENT, 0, 32, ZMM_HIGH, 32},
	{"zmm", 16, 16, "h", 256, "v2ui128", IN_COMPONENT, 32, 32, HIGH_16_ZMM, 64},
};

static const struct gdb_register_row keys[] = {
	{"pkru", 0, 0, "", 32, "int32", IN_COMPONENT, 0, 4, PROTECTION_KEYS, 0},
};

static const struct gdb_register_row control[] = {
	STATE("k_gs_base", kernel_gs_base, 64, "int64"),
	STATE("cr0", cr0, 64, "int64"),
	STATE("cr2", cr2, 64, "int64"),
	STATE("cr3", cr3, 64, "int64"),
	STATE("cr4", cr4, 64, "int64"),
	STATE("efer", efer, 64, "int64"),
};

static const struct {
	const char *name;
	u64 needs; /* components of XSAVE */
	const struct gdb_register_row *rows;
	size_t count;
} features[] = {
	{"org.gnu.gdb.i386.core", 0, core, ARRAY_SIZE(core)},
	{"org.gnu.gdb.i386.sse", 0, sse, ARRAY_SIZE(sse)},
	{"org.gnu.gdb.i386.segments", 0, segments, ARRAY_SIZE(segments)},
	{"org.gnu.gdb.i386.avx", BIT(AVX), avx, ARRAY_SIZE(avx)},
	{"org.gnu.gdb.i386.avx512", BIT(AVX) | BIT(OPMASK) | BIT(ZMM_HIGH) | BIT(HIGH_16_ZMM),
	 avx512, ARRAY_SIZE(avx512)},
	{"org.gnu.gdb.i386.pkeys", BIT(PROTECTION_KEYS), keys, ARRAY_SIZE(keys)},
	{"org.lguest.control", 0, control, ARRAY_SIZE(control)},
};

/* In every feature that uses them: GDB knows a type by the feature that it is in. */
static const char types[] =
	"<flags id=\"i386_eflags\" size=\"4\">"
	"<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
	"<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/>"
	"<field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
	"<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/>"
	"<field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>"
	"<field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/>"
	"<field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"VIF\" start=\"19\" end=\"19\"/>"
	"<field name=\"VIP\" start=\"20\" end=\"20\"/><field name=\"ID\" start=\"21\" end=\"21\"/>"
	"</flags>\n"
	"<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
	"<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
	"<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
	"<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
	"<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
	"<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
	"<union id=\"vec128\">"
	"<field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
	"<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
	"<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
	"<field name=\"uint128\" type=\"uint128\"/>"
	"</union>"
	"<vector id=\"v2ui128\" type=\"uint128\" count=\"2\"/>\n";

/* ------------------------------------------------------------------ what there is */

static bool has_feature(const struct gdb_registers *registers, size_t i)
{
	return (registers->features & features[i].needs) == features[i].needs;
}

void gdb_registers_init(struct gdb_registers *registers, u64 xsave_features)
{
	*registers = (struct gdb_registers){.features = xsave_features};
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (!has_feature(registers, i))
			continue;
		for (size_t j = 0; j < features[i].count; j++) {
			const struct gdb_register_row *row = &features[i].rows[j];

			for (unsigned k = 0; k < MAX(row->count, 1); k++) {
				registers->list[registers->count].row = row;
				registers->list[registers->count++].index = k;
			}
		}
	}
}

static void describe_row(FILE *out, const struct gdb_register_row *row)
{
	for (unsigned i = 0; i < MAX(row->count, 1); i++) {
		fprintf(out, "<reg name=\"%s", row->name);
		if (row->count)
			fprintf(out, "%u", row->first + i);
		fprintf(out, "%s\" bitsize=\"%u\" type=\"%s\"/>\n", row->suffix, row->bits,
			row->type);
	}
}

char *gdb_registers_describe(const struct gdb_registers *registers)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	fprintf(out, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
		     "<target version=\"1.0\">\n<architecture>i386:x86-64</architecture>\n");
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (!has_feature(registers, i))
			continue;
		fprintf(out, "<feature name=\"%s\">\n%s", features[i].name, types);
		for (size_t j = 0; j < features[i].count; j++)
			describe_row(out, &features[i].rows[j]);
		fprintf(out, "</feature>\n");
	}
	fprintf(out, "</target>\n");
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

unsigned gdb_register_size(const struct gdb_registers *registers, unsigned n)
{
	return registers->list[n].row->bits / 8;
}

bool gdb_register_in_xsave(const struct gdb_registers *registers, unsigned n)
{
	return registers->list[n].row->place != IN_STATE;
}

/* ------------------------------------------------------------------ the XSAVE area */

/* Where a component is in the standard format, and its size: of this processor, so of the guest's.
 */
static unsigned component_offset(enum component component, unsigned *size)
{
	unsigned offset = 0, ecx, edx;

	if (!__get_cpuid_count(CPUID_XSAVE, component, size, &offset, &ecx, &edx) ||
	    offset < XSAVE_HEADER_END || offset > DEBUG_XSAVE_SIZE ||
	    *size > DEBUG_XSAVE_SIZE - offset)
		*size = 0;
	return offset;
}

void gdb_xsave_complete(struct debug_xsave *xsave)
{
	const u16 fcw = FCW_INITIAL;
	u64 present;

	memcpy(&present, xsave->area + AT_XSTATE_BV, sizeof(present));
	if (!(present & BIT(X87))) {
		memset(xsave->area, 0, AT_MXCSR);
		memset(xsave->area + AT_ST, 0, AT_XMM - AT_ST);
		memcpy(xsave->area + AT_FCW, &fcw, sizeof(fcw));
	}
	if (!(present & BIT(SSE)))
		memset(xsave->area + AT_XMM, 0, 16 * XMM_STRIDE);
	for (unsigned i = AVX; i < COMPONENTS - 1; i++) {
		unsigned size, offset;

		if (present & BIT(i) || !(xsave->features & BIT(i)))
			continue;
		offset = component_offset(i, &size);
		memset(xsave->area + MIN(offset, DEBUG_XSAVE_SIZE), 0, size);
	}
	present |= xsave->features;
	memcpy(xsave->area + AT_XSTATE_BV, &present, sizeof(present));
}

/* ------------------------------------------------------------------ one register */

/* Intel SDM 1, "x87 FPU Tag Word". */
enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

#define EXPONENT 0x7fff
#define INTEGER	 (1ull << 63)

static enum tag tag_of(const u8 *st)
{
	u64 mantissa;
	u16 exponent;

	memcpy(&mantissa, st, sizeof(mantissa));
	memcpy(&exponent, st + sizeof(mantissa), sizeof(exponent));
	exponent &= EXPONENT;
	if (!exponent && !mantissa)
		return TAG_ZERO;
	return exponent == EXPONENT || !(mantissa & INTEGER) ? TAG_SPECIAL : TAG_VALID;
}

/* Tags are of physical registers, and ST0 is the one that the status word names. */
static u32 tag_word(const u8 *area)
{
	const unsigned top = area[AT_FSW + 1] >> 3 & 7;
	u32 word = 0;

	for (unsigned i = 0; i < 8; i++) {
		const u8 *st = area + AT_ST + ((i - top) & 7) * ST_STRIDE;

		word |= (area[AT_FTW] & 1 << i ? tag_of(st) : TAG_EMPTY) << 2 * i;
	}
	return word;
}

static void set_tag_word(u8 *area, u32 word)
{
	area[AT_FTW] = 0;
	for (unsigned i = 0; i < 8; i++)
		if ((word >> 2 * i & 3) != TAG_EMPTY)
			area[AT_FTW] |= 1 << i;
}

/* Where its bytes are; NULL: nowhere. */
static u8 *place_of(const struct gdb_registers *registers, unsigned n, struct gdb_values *values)
{
	const struct gdb_register_row *row = registers->list[n].row;
	unsigned offset = row->offset + registers->list[n].index * row->stride, base, size;

	if (row->place == IN_STATE)
		return (u8 *)&values->state + offset;
	if (row->place == IN_LEGACY)
		return values->xsave.area + offset;
	base = component_offset(row->component, &size);
	return offset + row->bytes <= size ? values->xsave.area + base + offset : NULL;
}

void gdb_register_get(const struct gdb_registers *registers, unsigned n,
		      const struct gdb_values *values, u8 *to)
{
	const struct gdb_register_row *row = registers->list[n].row;
	const u8 *from;

	memset(to, 0, row->bits / 8);
	if (row->place == TAG_WORD) {
		const u32 word = tag_word(values->xsave.area);

		memcpy(to, &word, sizeof(word));
		return;
	}
	from = place_of(registers, n, (struct gdb_values *)values);
	if (from)
		memcpy(to, from, row->bytes);
}

void gdb_register_set(const struct gdb_registers *registers, unsigned n, struct gdb_values *values,
		      const u8 *from)
{
	const struct gdb_register_row *row = registers->list[n].row;
	u8 *to;

	if (row->place == TAG_WORD) {
		u32 word;

		memcpy(&word, from, sizeof(word));
		set_tag_word(values->xsave.area, word);
		return;
	}
	to = place_of(registers, n, values);
	if (to)
		memcpy(to, from, row->bytes);
}
