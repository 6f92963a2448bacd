/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a guest runs: the small kernels of bench/guest, one and the same binary, on the
 * bare host, in a guest on lguest's soft engine, and in one on qemu's translator, in turns.
 * A second lguest may take part, so that two builds of it can be compared.
 *
 * The folder has the binary (kernels), a stock kernel, and an initramfs whose init is
 * bench/guest/init: bench/run makes it.
 */
#include "bench.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_KERNELS 32
#define MAX_WORD    32
/* A row that is slower than the peer by more than what might be chance is marked. */
#define SLOWER 0.95

enum place { NATIVE, LGUEST, ALSO, TCG, PLACES };

struct row {
	char name[MAX_WORD], unit[MAX_WORD];
	double figures[PLACES][MAX_ROUNDS]; /* operations per second */
	double medians[PLACES];
};

struct table {
	struct launcher launchers[PLACES]; /* without a path: does not take part */
	struct row *rows;
	unsigned count;
};

/* What kernels is to be told, and what it is told through. */
struct work {
	const char *folder;
	char *arguments[MAX_KERNELS + 3]; /* as for execv() */
};

static const struct ratio {
	enum place of, to;
	const char *label;
} ratios[] = {
	{LGUEST, NATIVE, "lguest/native"},
	{LGUEST, TCG, "lguest/tcg"},
	{ALSO, TCG, "also/tcg"},
	{ALSO, LGUEST, "also/lguest"},
};

#define RATIOS (sizeof(ratios) / sizeof(ratios[0]))

static void become_native(const struct launcher *launcher, const void *guest)
{
	const struct work *work = guest;

	execv(launcher->path, work->arguments);
}

/* The arguments go behind --, where the kernel hands them to its init. */
static void become_guest(const struct launcher *launcher, const struct work *work,
			 void (*become)(const struct launcher *, const void *))
{
	char append[1024] = "console=ttyS0 quiet panic=-1 rdinit=/bench/init --";
	const struct stock stock = {.folder = work->folder, .append = append};

	for (char *const *argument = &work->arguments[1]; *argument; argument++) {
		strncat(append, " ", sizeof(append) - strlen(append) - 1);
		strncat(append, *argument, sizeof(append) - strlen(append) - 1);
	}
	become(launcher, &stock);
}

static void become_lguest(const struct launcher *launcher, const void *guest)
{
	become_guest(launcher, guest, become_stock_lguest);
}

static void become_tcg(const struct launcher *launcher, const void *guest)
{
	become_guest(launcher, guest, become_stock_tcg);
}

static struct row *find_row(const struct table *table, const char *name)
{
	for (unsigned i = 0; i < table->count; i++)
		if (strcmp(table->rows[i].name, name) == 0)
			return &table->rows[i];
	return NULL;
}

/* Which kernels there are, or which of them are wanted, is for the binary to say. */
static void list_rows(struct table *table, const struct launcher *native, struct work *work)
{
	struct process process;
	char line[256];

	work->arguments[1] = "--list";
	process = start(native, work);
	while (table->count < MAX_KERNELS && next_line(&process, line, sizeof(line)))
		snprintf(table->rows[table->count++].name, MAX_WORD, "%.*s", MAX_WORD - 1, line);
	check_status(native, &process, wait_for_end(&process));
	close(process.errors);
}

static void run_once(struct table *table, enum place place, unsigned round, const struct work *work)
{
	const struct launcher *launcher = &table->launchers[place];
	struct process process = start(launcher, work);
	char line[256], heard[256] = "nothing";
	unsigned found = 0;

	while (next_line(&process, line, sizeof(line))) {
		char name[MAX_WORD], unit[MAX_WORD];
		double figure;
		struct row *row = NULL;

		if (sscanf(line, "%31s %lf %31s", name, &figure, unit) == 3)
			row = find_row(table, name);
		if (!row) {
			if (*line)
				memcpy(heard, line, sizeof(heard));
			continue;
		}
		memcpy(row->unit, unit, sizeof(unit));
		row->figures[place][round] = figure;
		found++;
	}
	check_status(launcher, &process, wait_for_end(&process));
	if (found != table->count)
		fail("%s: %u figures instead of %u; it says: %s", launcher->label, found,
		     table->count, heard);
	close(process.errors);
}

static bool both_there(const struct table *table, const struct ratio *ratio)
{
	return table->launchers[ratio->of].path && table->launchers[ratio->to].path;
}

/* 1234567 as 1.235 M. */
static void print_figure(double figure)
{
	static const char *const prefixes[] = {"", "k", "M", "G", "T"};
	unsigned prefix = 0;

	while (figure >= 1000 && prefix < sizeof(prefixes) / sizeof(prefixes[0]) - 1) {
		figure /= 1000;
		prefix++;
	}
	printf(" %9.4g %1s", figure, prefixes[prefix]);
}

static void print_head(const struct table *table)
{
	printf("%-12s", "per second");
	for (enum place place = 0; place < PLACES; place++)
		if (table->launchers[place].path)
			printf(" %11s", table->launchers[place].label);
	printf("  %-12s", "of");
	for (unsigned i = 0; i < RATIOS; i++)
		if (both_there(table, &ratios[i]))
			printf(" %13s", ratios[i].label);
	printf("\n");
}

static void print_row(const struct table *table, const struct row *row)
{
	bool slower = false;

	printf("%-12s", row->name);
	for (enum place place = 0; place < PLACES; place++)
		if (table->launchers[place].path)
			print_figure(row->medians[place]);
	printf("  %-12s", row->unit);
	for (unsigned i = 0; i < RATIOS; i++) {
		double ratio = row->medians[ratios[i].of] / row->medians[ratios[i].to];

		if (!both_there(table, &ratios[i]))
			continue;
		printf(" %13.3f", ratio);
		slower |= ratios[i].to == TCG && ratio < SLOWER;
	}
	printf("%s\n", slower ? "  slower" : "");
}

static void report(struct table *table, unsigned rounds)
{
	double logarithms[RATIOS] = {0};

	print_head(table);
	for (unsigned i = 0; i < table->count; i++) {
		struct row *row = &table->rows[i];

		for (enum place place = 0; place < PLACES; place++)
			row->medians[place] = median(row->figures[place], rounds);
		for (unsigned j = 0; j < RATIOS; j++)
			logarithms[j] +=
				log(row->medians[ratios[j].of] / row->medians[ratios[j].to]);
		print_row(table, row);
	}
	for (unsigned i = 0; i < RATIOS; i++)
		if (both_there(table, &ratios[i]))
			printf("geometric mean of %s: %.3f\n", ratios[i].label,
			       exp(logarithms[i] / table->count));
	printf("medians of %u rounds, in turns\n", rounds);
}

/* NAME,NAME,... becomes arguments of their own. */
static void add_names(struct work *work, char *names)
{
	unsigned count = 2;

	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		if (count > MAX_KERNELS + 1)
			fail("too many kernels");
		work->arguments[count++] = name;
	}
}

void bench_kernels(const struct choices *choices)
{
	struct table table = {.rows = calloc(MAX_KERNELS, sizeof(*table.rows))};
	char binary[PATH_MAX], names[1024], ms[MAX_WORD];
	struct work work = {.folder = choices->kernels, .arguments = {"kernels"}};
	const struct launcher native = {.label = "native", .path = binary, .become = become_native};
	const struct launcher lguest = {.label = "lguest",
					.path = choices->lguest,
					.become = become_lguest,
					.engine = "--engine=soft"};

	if (!table.rows)
		fail("out of memory");
	snprintf(binary, sizeof(binary), "%s/kernels", choices->kernels);
	snprintf(names, sizeof(names), "%s", choices->filter);
	snprintf(ms, sizeof(ms), "--ms=%u", choices->ms);
	add_names(&work, names);
	list_rows(&table, &native, &work);
	work.arguments[1] = ms;

	if (choices->with_native)
		table.launchers[NATIVE] = native;
	table.launchers[LGUEST] = lguest;
	table.launchers[ALSO] = lguest;
	table.launchers[ALSO].label = "also";
	table.launchers[ALSO].path = choices->also;
	if (choices->with_tcg)
		table.launchers[TCG] = (struct launcher){
			.label = "tcg", .path = choices->qemu, .become = become_tcg};
	for (unsigned round = 0; round < choices->rounds; round++)
		for (enum place place = 0; place < PLACES; place++)
			if (table.launchers[place].path)
				run_once(&table, place, round, &work);
	report(&table, choices->rounds);
	free(table.rows);
}
