/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast a guest runs, and how fast the bare host, with one and the same binaries, in
 * turns: in a guest on lguest's soft engine, and in one on qemu's translator. A second lguest
 * may take part, so that two builds of it can be compared.
 *
 * What runs is bench/guest: small kernels, which say how much they do in a second, or whole
 * programs, which say how many seconds they take. Ratios are of speed in both: more is better.
 *
 * The folder has that program, a stock kernel, an initramfs whose init is bench/guest/init,
 * and for whole programs disk.img, where they are: bench/run makes it.
 */
#include "bench.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ROWS 32
#define MAX_WORD 32
/* A row that is slower than the peer by more than what might be chance is marked. */
#define SLOWER 0.95

enum place { NATIVE, LGUEST, ALSO, TCG, PLACES };

struct row {
	char name[MAX_WORD], unit[MAX_WORD];
	double figures[PLACES][MAX_ROUNDS]; /* as the unit says */
	double medians[PLACES];
};

struct table {
	struct launcher launchers[PLACES]; /* without a path: does not take part */
	struct row *rows;
	unsigned count;
	bool seconds; /* less is faster */
};

/* What is to run, with its arguments, and the guest that it is to run in. */
struct work {
	const char *folder, *disk;
	char *arguments[MAX_ROWS + 3]; /* as for execv() */
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

/* The program and its arguments go behind --, where the kernel hands them to its init. */
static void become_guest(const struct launcher *launcher, const struct work *work,
			 void (*become)(const struct launcher *, const void *))
{
	char append[1024] = "console=ttyS0 quiet panic=-1 rdinit=/bench/init --";
	const struct stock stock = {.folder = work->folder, .append = append, .disk = work->disk};

	for (char *const *argument = work->arguments; *argument; argument++) {
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

/* What there is, or what of it is wanted, is for the program to say. */
static void list_rows(struct table *table, const struct launcher *native, const struct work *work)
{
	struct process process;
	struct work list = *work;
	char line[256];

	memmove(&list.arguments[2], &list.arguments[1],
		sizeof(list.arguments) - 2 * sizeof(list.arguments[0]));
	list.arguments[1] = "--list";
	process = start(native, &list);
	while (table->count < MAX_ROWS && next_line(&process, line, sizeof(line)))
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
			/* What a kernel says at the end, with the time before it, explains nothing.
			 */
			if (*line && *line != '[')
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

static double speed_ratio(const struct table *table, const struct row *row,
			  const struct ratio *ratio)
{
	double of = row->medians[ratio->of], to = row->medians[ratio->to];

	return table->seconds ? to / of : of / to;
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
	printf("%-12s", table->seconds ? "seconds" : "per second");
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
		double ratio = speed_ratio(table, row, &ratios[i]);

		if (!both_there(table, &ratios[i]))
			continue;
		printf(" %13.3f", ratio);
		slower |= ratios[i].of == LGUEST && ratios[i].to == TCG && ratio < SLOWER;
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
			logarithms[j] += log(speed_ratio(table, row, &ratios[j]));
		print_row(table, row);
	}
	for (unsigned i = 0; i < RATIOS; i++)
		if (both_there(table, &ratios[i]))
			printf("geometric mean of %s: %.3f\n", ratios[i].label,
			       exp(logarithms[i] / table->count));
	printf("medians of %u rounds, in turns\n", rounds);
}

/* One more for the program; NAME,NAME,... becomes as many. */
static void add_argument(struct work *work, char *argument)
{
	unsigned count = 0;

	while (work->arguments[count])
		count++;
	if (count == sizeof(work->arguments) / sizeof(work->arguments[0]) - 2)
		fail("too many names in --filter");
	work->arguments[count] = argument;
}

static void add_names(struct work *work, char *names)
{
	for (char *name = strtok(names, ","); name; name = strtok(NULL, ","))
		add_argument(work, name);
}

/* Who takes part. */
static void choose_places(struct table *table, const struct choices *choices,
			  const struct launcher *native)
{
	const struct launcher lguest = {.label = "lguest",
					.path = choices->lguest,
					.become = become_lguest,
					.engine = "--engine=soft"};

	if (choices->with_native)
		table->launchers[NATIVE] = *native;
	table->launchers[LGUEST] = lguest;
	table->launchers[ALSO] = lguest;
	table->launchers[ALSO].label = "also";
	table->launchers[ALSO].path = choices->also;
	if (choices->with_tcg)
		table->launchers[TCG] = (struct launcher){
			.label = "tcg", .path = choices->qemu, .become = become_tcg};
}

static void bench_speed(const struct choices *choices, struct work *work, struct table *table)
{
	char binary[PATH_MAX], names[1024];
	const struct launcher native = {.label = "native", .path = binary, .become = become_native};

	table->rows = calloc(MAX_ROWS, sizeof(*table->rows));
	if (!table->rows)
		fail("out of memory");
	snprintf(binary, sizeof(binary), "%s/%s", work->folder, work->arguments[0]);
	snprintf(names, sizeof(names), "%s", choices->filter);
	add_names(work, names);
	list_rows(table, &native, work);
	choose_places(table, choices, &native);
	for (unsigned round = 0; round < choices->rounds; round++)
		for (enum place place = 0; place < PLACES; place++)
			if (table->launchers[place].path)
				run_once(table, place, round, work);
	report(table, choices->rounds);
	free(table->rows);
}

void bench_kernels(const struct choices *choices)
{
	char ms[MAX_WORD];
	struct work work = {.folder = choices->folder, .arguments = {"kernels", ms}};
	struct table table = {.seconds = false};

	snprintf(ms, sizeof(ms), "--ms=%u", choices->ms);
	bench_speed(choices, &work, &table);
}

void bench_programs(const struct choices *choices)
{
	char disk[PATH_MAX];
	struct work work = {.folder = choices->folder, .disk = disk, .arguments = {"programs"}};
	struct table table = {.seconds = true};

	snprintf(disk, sizeof(disk), "%s/disk.img", choices->folder);
	bench_speed(choices, &work, &table);
}
