/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looking into the soft engine while it runs (--trace) and after (--soft-stats).
 *
 * Nothing here knows what is worth a line or a count: whoever does it says TRACE(),
 * or adds one to vcpu->stats. A trace goes to a file, in the order in which things
 * happened, and is meant for grep; statistics go to standard error when the guest
 * is gone, and are meant for people.
 *
 * Tour 8.200: Traces and statistics
 */
#include "engine/soft/internal.h"
#include "host/log.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

/* Of instructions that C executed, so many are told by name: the dearest. */
#define NAMES_SHOWN 20

/* ------------------------------------------------------------------ the trace */

int trace_open(struct soft *soft, struct problem *why)
{
	if (!soft->options.trace)
		return 0;
	soft->trace = fopen(soft->options.trace_file, "we");
	if (!soft->trace)
		return problem(why, errno, "cannot write the trace %s: %s",
			       soft->options.trace_file, strerror(errno));
	/* The first line has libc ask what kind of file it is: once locked in, it may not. */
	fputs("# vCPU, microseconds, event\n", soft->trace);
	return 0;
}

void trace_close(struct soft *soft)
{
	bool incomplete;

	if (!soft->trace)
		return;
	incomplete = ferror(soft->trace);
	/* What did not fit on the disk may come to light only now. */
	if (fclose(soft->trace) || incomplete)
		log_line("the trace %s is not complete", soft->options.trace_file);
	soft->trace = NULL;
}

/* "VCPU MICROSECONDS TEXT": since the engine was opened. */
void trace_print(struct vcpu *vcpu, const char *format, ...)
{
	struct soft *soft = vcpu->soft;
	va_list args;
	u64 ns;

	if (!soft->trace)
		return;
	vectors_save(vcpu);
	ns = clock_tsc_to_ns(soft, clock_tsc() - soft->tsc_start);
	/* One line, whatever other vCPUs have to say. */
	flockfile(soft->trace);
	fprintf(soft->trace, "%u %9" PRIu64 ".%03u ", vcpu->index, ns / 1000,
		(unsigned)(ns % 1000));
	va_start(args, format);
	vfprintf(soft->trace, format, args);
	va_end(args);
	putc('\n', soft->trace);
	funlockfile(soft->trace);
}

/* ------------------------------------------------------------------ the statistics */

static const char *const exception_names[32] = {
	[VECTOR_DE] = "#DE divide error",
	[VECTOR_DB] = "#DB debug",
	[VECTOR_NMI] = "NMI",
	[VECTOR_BP] = "#BP breakpoint",
	[VECTOR_OF] = "#OF overflow",
	[VECTOR_BR] = "#BR bound range",
	[VECTOR_UD] = "#UD undefined instruction",
	[VECTOR_NM] = "#NM no x87 or vectors",
	[VECTOR_DF] = "#DF double fault",
	[VECTOR_TS] = "#TS task state segment",
	[VECTOR_NP] = "#NP segment not present",
	[VECTOR_SS] = "#SS stack",
	[VECTOR_GP] = "#GP general protection",
	[VECTOR_PF] = "#PF page fault",
	[VECTOR_MF] = "#MF x87",
	[VECTOR_AC] = "#AC alignment",
	[VECTOR_XM] = "#XM SIMD",
};

static void print_count(const char *name, u64 count)
{
	log_line("    %-36s %14" PRIu64, name, count);
}

/* In ms, and as a share of all the time that the vCPU had. */
static void print_time(const struct soft *soft, const char *name, u64 ticks, u64 total)
{
	u64 tenths = total ? ticks * 1000 / total : 0;

	log_line("    %-36s %11" PRIu64 " ms %3" PRIu64 ".%" PRIu64 "%%", name,
		 clock_tsc_to_ns(soft, ticks) / 1000000, tenths / 10, tenths % 10);
}

/* Translating and being halted are done by helpers, and so in the time that those took. */
static void print_times(const struct soft *soft, const struct soft_stats *stats)
{
	u64 named = stats->ticks_translating + stats->ticks_halted;
	u64 helping = MAX(stats->ticks_helping, named + stats->ticks_bare);
	u64 total = MAX(stats->ticks_total, helping);

	log_line("  time");
	print_time(soft, "in translated code", total - helping, total);
	print_time(soft, "in user code as it is", stats->ticks_bare, total);
	print_time(soft, "in other helpers", helping - named - stats->ticks_bare, total);
	print_time(soft, "translating", stats->ticks_translating, total);
	print_time(soft, "halted", stats->ticks_halted, total);
	print_time(soft, "together", total, total);
}

#define COUNTER(name, member)                                                                      \
	{                                                                                          \
		name, offsetof(struct soft_stats, member)                                          \
	}

struct counter {
	const char *name;
	size_t offset;
};

static const struct counter translation[] = {
	COUNTER("blocks", blocks_translated),
	COUNTER("instructions", insns_translated),
	COUNTER("bytes emitted", bytes_emitted),
	COUNTER("jumps linked", links),
	COUNTER("cache emptied", cache_flushes),
	COUNTER("blocks dropped", blocks_invalidated),
	COUNTER("writes to pages with code", code_writes),
	COUNTER("the same, by others", foreign_code_writes),
	COUNTER("pages that another CPU may no longer write", rights_revoked),
};

static const struct counter memory[] = {
	COUNTER("TLB misses, reading", tlb_misses[ACCESS_READ]),
	COUNTER("TLB misses, writing", tlb_misses[ACCESS_WRITE]),
	COUNTER("TLB misses, fetching", tlb_misses[ACCESS_FETCH]),
	COUNTER("TLB flushes", tlb_flushes),
	COUNTER("TLB flushes, global pages too", tlb_flushes_all),
	COUNTER("TLB flushes of one page", invlpgs),
	COUNTER("changes of address space", space_switches),
	COUNTER("the same, to one that was not known", spaces_taken),
	COUNTER("accesses across two pages", page_crossings),
};

static const struct counter exits[] = {
	COUNTER("indirect jumps that missed", jump_misses),
	COUNTER("polls", polls),
	COUNTER("system instructions", system_insns),
	COUNTER("string instructions", string_insns),
	COUNTER("device memory, read", mmio_reads),
	COUNTER("device memory, written", mmio_writes),
	COUNTER("ports, read", port_reads),
	COUNTER("ports, written", port_writes),
	COUNTER("interrupts", interrupts),
	COUNTER("halts", halts),
};

static const struct counter bare[] = {
	COUNTER("runs", bare_runs),
	COUNTER("ended by system calls", bare_calls),
	COUNTER("ended by page faults", bare_faults),
	COUNTER("ended from outside", bare_kicks),
	COUNTER("given up", bare_given_up),
	COUNTER("pieces mapped", bare_maps),
	COUNTER("all unmapped", bare_empties),
};

static void print_counters(const char *title, const struct soft_stats *stats,
			   const struct counter *counters, size_t count)
{
	log_line("  %s", title);
	for (size_t i = 0; i < count; i++)
		print_count(counters[i].name,
			    *(const u64 *)((const u8 *)stats + counters[i].offset));
}

static void print_exceptions(const struct soft_stats *stats)
{
	for (unsigned i = 0; i < ARRAY_SIZE(stats->exceptions); i++)
		if (stats->exceptions[i])
			print_count(exception_names[i] ? exception_names[i] : "another exception",
				    stats->exceptions[i]);
}

/* The one that was executed most often among those not yet taken; -1: none was. */
static int most_executed(const struct soft_stats *stats, const bool *taken)
{
	int most = -1;

	for (unsigned i = 0; i < ARRAY_SIZE(stats->executed); i++)
		if (!taken[i] && stats->executed[i] &&
		    (most < 0 || stats->executed[i] > stats->executed[most]))
			most = i;
	return most;
}

static void print_executed(const struct soft_stats *stats)
{
	bool taken[ARRAY_SIZE(stats->executed)] = {false};
	int most;

	_Static_assert(ARRAY_SIZE(stats->executed) > ZYDIS_MNEMONIC_MAX_VALUE,
		       "a counter for each mnemonic");
	log_line("  instructions executed in C");
	for (unsigned i = 0; i < NAMES_SHOWN && (most = most_executed(stats, taken)) >= 0; i++) {
		const char *name = ZydisMnemonicGetString(most);

		print_count(name ? name : "?", stats->executed[most]);
		taken[most] = true;
	}
}

void stats_print(const struct soft *soft)
{
	for (unsigned i = 0; i < soft->vcpus_added; i++) {
		const struct soft_stats *stats = &soft->vcpus[i]->stats;

		log_line("soft engine, vCPU %u", i);
		print_times(soft, stats);
		print_counters("translation", stats, translation, ARRAY_SIZE(translation));
		print_counters("memory", stats, memory, ARRAY_SIZE(memory));
		print_counters("translated code left for", stats, exits, ARRAY_SIZE(exits));
		print_counters("user code as it is", stats, bare, ARRAY_SIZE(bare));
		print_exceptions(stats);
		print_executed(stats);
	}
}
