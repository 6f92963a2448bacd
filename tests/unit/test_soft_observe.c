/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The soft engine's trace and statistics: what was asked for is there, in order, and
 * the times add up. Nothing runs on the vCPU.
 */
#include "soft_vcpu.h"

#include <Zydis/Zydis.h>
#include <sys/mman.h>
#include <unistd.h>

#define HZ 1000000000ull /* a tick is a nanosecond */

static struct soft *soft;
static struct vcpu *vcpu;
static char text[65536];

static int make_vcpu(void **state)
{
	struct fixture *f;

	if (setup(state))
		return -1;
	f = *state;
	soft = f->soft;
	vcpu = f->vcpu;
	soft->tsc_hz = HZ;
	soft->tsc_start = clock_tsc();
	return 0;
}

static void read_text(int fd)
{
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

	assert_true(length >= 0);
	text[length] = 0;
}

static void test_trace(void **state)
{
	int file = memfd_create("trace", 0);
	char name[64];
	struct problem why;
	unsigned index;
	double first, second;
	const char *line;
	int rest, end;

	(void)state;
	assert_true(file >= 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", file);
	soft->options.trace = SOFT_TRACE_INT | SOFT_TRACE_IO;
	soft->options.trace_file = name;
	assert_int_equal(trace_open(soft, &why), 0);
	vcpu->index = 3;
	TRACE(vcpu, INT, "interrupt %#x", 0x30);
	TRACE(vcpu, MMU, "must not be seen");
	TRACE(vcpu, IO, "out %#x", 0x3f8);
	trace_close(soft);
	assert_null(soft->trace);
	read_text(file);
	close(file);
	assert_int_equal(text[0], '#'); /* written while one still may ask about files */
	line = strchr(text, '\n') + 1;
	assert_int_equal(sscanf(line, "%u %lf interrupt 0x30\n%n", &index, &first, &rest), 2);
	assert_int_equal(index, 3);
	assert_int_equal(sscanf(line + rest, "%u %lf out 0x3f8\n%n", &index, &second, &end), 2);
	assert_int_equal(rest + end, strlen(line));
	assert_true(first >= 0 && second >= first);
	assert_null(strstr(text, "must not"));
}

static void test_no_trace(void **state)
{
	struct problem why;

	(void)state;
	soft->options.trace_file = "/nonexistent/folder/trace";
	assert_int_equal(trace_open(soft, &why), 0);
	assert_null(soft->trace);
	trace_close(soft);
	soft->options.trace = SOFT_TRACE_EXEC;
	assert_true(trace_open(soft, &why) < 0);
	assert_non_null(strstr(why.text, "/nonexistent/folder/trace"));
}

/* What `print` says on standard error. */
static void print_to_text(void (*print)(const struct soft *soft))
{
	int file = memfd_create("errors", 0), before = dup(STDERR_FILENO);

	assert_true(file >= 0 && before >= 0);
	dup2(file, STDERR_FILENO);
	print(soft);
	dup2(before, STDERR_FILENO);
	close(before);
	read_text(file);
	close(file);
}

/* The line with that name: its number. */
static unsigned long long number_of(const char *name)
{
	const char *at = strstr(text, name);

	if (!at)
		fail_msg("no \"%s\" in:\n%s", name, text);
	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void test_stats(void **state)
{
	struct soft_stats *stats = &vcpu->stats;

	(void)state;
	stats->ticks_total = 8 * HZ;
	stats->ticks_halted = 4 * HZ;
	stats->ticks_translating = HZ / 2;
	stats->ticks_helping = 5 * HZ;
	stats->tlb_misses[ACCESS_WRITE] = 17;
	stats->exceptions[VECTOR_PF] = 18;
	stats->executed[ZYDIS_MNEMONIC_WRMSR] = 19;
	stats->executed[ZYDIS_MNEMONIC_CLI] = 20;
	print_to_text(stats_print);
	assert_int_equal(number_of(" in translated code "), 3000);
	assert_int_equal(number_of(" in other helpers "), 500);
	assert_int_equal(number_of(" halted "), 4000);
	assert_non_null(strstr(text, " 37.5%"));
	assert_non_null(strstr(text, " 50.0%"));
	assert_int_equal(number_of(" TLB misses, writing "), 17);
	assert_int_equal(number_of(" #PF page fault "), 18);
	assert_null(strstr(text, "#GP"));
	assert_int_equal(number_of(" wrmsr "), 19);
	assert_int_equal(number_of(" cli "), 20);
	assert_true(strstr(text, " cli ") < strstr(text, " wrmsr "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_trace, make_vcpu, teardown),
		cmocka_unit_test_setup_teardown(test_no_trace, make_vcpu, teardown),
		cmocka_unit_test_setup_teardown(test_stats, make_vcpu, teardown),
	};

	return cmocka_run_group_tests_name("soft_observe", tests, NULL, NULL);
}
