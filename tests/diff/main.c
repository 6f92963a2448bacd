/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * build/diff: does the soft engine do what this machine's own CPU does?
 *
 *   diff [--count=N] [--start=N]    random sequences of 1 to 20 instructions
 *   diff --forms[=N] [--only=NAME]  every form, N times (100), each alone
 *   diff --named[=NAME]             those of named.inc, a hundred times each
 *   diff --seed=N [--form=N] [--named=NAME]
 *                                   one of them again, with all that differs
 *   diff --garbage=N                random bytes as kernels: the engine survives
 *   diff --list                     the forms, a line each
 *
 * --without=LIST: as lguest's --soft-without.
 * --kicked: the signal that calls a vCPU out of its code comes all the time.
 * --compat: 32-bit code instead of 64-bit code. --narrow: 16-bit code. Both have, some or always,
 * segments with bases and limits.
 *
 * Both sides run in processes of their own, so that one that is killed is one more
 * finding and not the end: first the bare CPU for a few hundred sequences, then the
 * engine, twice, for the same. A mismatch is made smaller, by leaving out instructions for as
 * long as it stays one, and printed.
 */
#include "diff.h"

#include "engine/soft/tuning.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK		256
#define GARBAGE_CHUNK	25
#define GARBAGE_SECONDS 20 /* for one: it is given milliseconds */
#define NOT_A_FORM	(-1)
#define NAMED_TIMES	100

enum verdict { PENDING, SAME, DIFFERENT, SKIPPED, CRASHED };

struct slot {
	struct job job;
	enum verdict verdict;
	bool native_done;
	bool warm;  /* only the second time */
	int signal; /* that killed the engine */
	struct outcome native, soft;
};

struct options {
	u64 start, count, garbage;
	unsigned per_form, show, without;
	const char *only;
	bool list, single, compat, narrow, named, kicked;
	struct job job;
};

struct tester {
	struct options options;
	struct forms *forms;
	struct slot *slots; /* shared with the children */
	struct sequence *sequence;
	u64 passed, failed, skipped;
	unsigned *form_failed; /* by form */
};

/* What is remembered of a slot that failed: describing it uses the slots again. */
struct failure {
	struct job job;
	int signal;
};

/* ------------------------------------------------------------------ children */

typedef void work(struct tester *tester, unsigned from, unsigned count);

static void native_side(struct tester *tester, unsigned from, unsigned count)
{
	native_init(tester->options.compat);
	for (unsigned i = from; i < count; i++) {
		struct slot *slot = &tester->slots[i];

		generate(tester->forms, &slot->job, tester->sequence);
		native_run(tester->sequence, &slot->native);
		slot->native_done = true;
	}
}

static void soft_side(struct tester *tester, unsigned from, unsigned count)
{
	struct soft_side *side = soft_side_new(tester->options.without, tester->options.kicked);

	for (unsigned i = from; i < count; i++) {
		struct slot *slot = &tester->slots[i];

		if (slot->verdict != PENDING)
			continue;
		generate(tester->forms, &slot->job, tester->sequence);
		soft_side_run(side, tester->sequence, false, &slot->soft);
		slot->warm = outcomes_same(tester->sequence, &slot->native, &slot->soft);
		if (slot->warm)
			soft_side_run(side, tester->sequence, true, &slot->soft);
		slot->verdict = outcomes_same(tester->sequence, &slot->native, &slot->soft)
					? SAME
					: DIFFERENT;
	}
}

static void garbage_side(struct tester *tester, unsigned from, unsigned count)
{
	static u8 bytes[CODE_PAGES * PAGE_SIZE];

	for (unsigned i = from; i < count; i++) {
		alarm(GARBAGE_SECONDS);
		generate_garbage(tester->forms, tester->slots[i].job.seed, tester->sequence, bytes);
		soft_side_garbage(tester->sequence, bytes);
		tester->slots[i].verdict = SAME;
	}
}

/* In a process of its own: the status that waitpid() gives. */
static int in_child(struct tester *tester, work *action, unsigned from, unsigned count)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		action(tester, from, count);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("diff: fork");
		exit(1);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status))
		exit(1); /* it has said why */
	return status;
}

/*
 * What the CPU could not do to an end says nothing about the engine. But whatever it does is
 * caught: where that side dies, the tester itself is wrong.
 */
static void run_native(struct tester *tester, unsigned count)
{
	unsigned from = 0;
	int status;

	while (from < count && (status = in_child(tester, native_side, from, count))) {
		while (from < count && tester->slots[from].native_done)
			from++;
		if (from < count) {
			tester->slots[from].verdict = CRASHED;
			tester->slots[from++].signal = WTERMSIG(status);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		const struct slot *slot = &tester->slots[i];

		if (slot->native_done && slot->native.vector >= END_ENDLESS)
			tester->slots[i].verdict = SKIPPED;
	}
}

static void run_guarded(struct tester *tester, work *action, unsigned count)
{
	unsigned from = 0;
	int status;

	while (from < count && (status = in_child(tester, action, from, count))) {
		while (from < count && tester->slots[from].verdict != PENDING)
			from++;
		if (from < count) {
			tester->slots[from].verdict = CRASHED;
			tester->slots[from].signal = WTERMSIG(status);
		}
	}
}

static void run_slots(struct tester *tester, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		tester->slots[i].verdict = PENDING;
		tester->slots[i].native_done = tester->slots[i].warm = false;
	}
	run_native(tester, count);
	run_guarded(tester, soft_side, count);
}

/* ------------------------------------------------------------------ findings */

static bool fails(struct tester *tester, const struct job *job)
{
	tester->slots[0].job = *job;
	run_slots(tester, 1);
	return tester->slots[0].verdict == DIFFERENT || tester->slots[0].verdict == CRASHED;
}

/* Leave out what makes no difference to the difference. */
static struct job reduce(struct tester *tester, struct job job)
{
	unsigned count;

	generate(tester->forms, &job, tester->sequence);
	count = tester->sequence->count - 1;
	for (unsigned i = count; i-- > 0;) {
		struct job smaller = job;

		smaller.drop |= 1ull << i;
		if (fails(tester, &smaller))
			job = smaller;
	}
	return job;
}

static void describe(struct tester *tester, const struct failure *failure)
{
	struct job smallest;
	const struct slot *again = &tester->slots[0];

	printf("FAIL --seed=%llu", (unsigned long long)failure->job.seed);
	if (failure->job.form >= 0)
		printf(" --form=%d", failure->job.form);
	if (failure->job.named)
		printf(" --named=%s: %s", failure->job.named->name, failure->job.named->goes_wrong);
	if (failure->signal)
		printf(" (signal %d)", failure->signal);
	printf("\n");
	if (!fails(tester, &failure->job)) {
		printf("    not alone: it depends on those before it\n");
		return;
	}
	smallest = reduce(tester, failure->job);
	fails(tester, &smallest);
	generate(tester->forms, &smallest, tester->sequence);
	if (again->warm)
		printf("    the second time only\n");
	sequence_print(tester->sequence);
	if (again->verdict == DIFFERENT)
		outcomes_print(tester->sequence, &again->native, &again->soft);
	else
		printf("    %s was killed by signal %d\n",
		       again->native_done ? "the engine" : "the CPU's side", again->signal);
}

static void count_slots(struct tester *tester, unsigned count)
{
	struct failure failed[CHUNK];
	unsigned failures = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct slot *slot = &tester->slots[i];

		if (slot->verdict == SAME) {
			tester->passed++;
		} else if (slot->verdict == SKIPPED) {
			tester->skipped++;
		} else {
			failed[failures++] = (struct failure){
				slot->job, slot->verdict == CRASHED ? slot->signal : 0};
			if (slot->job.form >= 0)
				tester->form_failed[slot->job.form]++;
		}
	}
	tester->failed += failures;
	for (unsigned i = 0; i < failures && tester->options.show; i++) {
		/* One of a form is enough, and one of a name. */
		if (i &&
		    ((failed[i].job.form >= 0 && failed[i].job.form == failed[i - 1].job.form) ||
		     (failed[i].job.named && failed[i].job.named == failed[i - 1].job.named)))
			continue;
		tester->options.show--;
		describe(tester, &failed[i]);
	}
}

static void form_name(const struct form *form, char *name, size_t size)
{
	static const char *const maps[] = {"", "0f ", "0f 38 ", "0f 3a ", "", "5 ", "6 "};
	static const char *const lengths[] = {"", " 256", " 512", " 1024"};
	char reg[8] = "";

	if (form->reg != FORM_ANY)
		snprintf(reg, sizeof(reg), "/%u", form->reg);
	snprintf(name, size, "%s: %s%.*x%s%s%02x%s %s%s%s", ZydisMnemonicGetString(form->mnemonic),
		 form->evex  ? "evex "
		 : form->vex ? "vex "
			     : "",
		 form->prefix ? 2 : 0, form->prefix, form->wide ? " w " : " ", maps[form->map],
		 form->opcode, reg,
		 !form->modrm	? "-"
		 : form->memory ? "memory"
				: "register",
		 lengths[form->length], form->b ? " b" : "");
}

/* ------------------------------------------------------------------ modes */

static void run_sequences(struct tester *tester)
{
	const struct options *options = &tester->options;

	for (u64 done = 0; done < options->count; done += CHUNK) {
		unsigned count = MIN((u64)CHUNK, options->count - done);

		for (unsigned i = 0; i < count; i++)
			tester->slots[i].job =
				(struct job){.seed = options->start + done + i, .form = NOT_A_FORM};
		run_slots(tester, count);
		count_slots(tester, count);
	}
}

static bool chosen(const struct tester *tester, const struct form *form)
{
	return form->class != FORM_SYSTEM &&
	       (!tester->options.only ||
		!strcmp(tester->options.only, ZydisMnemonicGetString(form->mnemonic)));
}

static void run_forms(struct tester *tester)
{
	const struct options *options = &tester->options;
	unsigned count = 0;

	for (unsigned form = 0; form < tester->forms->count; form++) {
		if (!chosen(tester, &tester->forms->all[form]))
			continue;
		for (unsigned i = 0; i < options->per_form; i++) {
			tester->slots[count++].job =
				(struct job){.seed = options->start + i, .form = form};
			if (count == CHUNK) {
				run_slots(tester, count);
				count_slots(tester, count);
				count = 0;
			}
		}
	}
	run_slots(tester, count);
	count_slots(tester, count);
	for (unsigned form = 0; form < tester->forms->count; form++) {
		char name[100];

		if (!tester->form_failed[form])
			continue;
		form_name(&tester->forms->all[form], name, sizeof(name));
		printf("%u of %u failed: form %u, %s\n", tester->form_failed[form],
		       options->per_form, form, name);
	}
}

/* 32-bit code, or 64-bit code, from now on. */
static void use_mode(struct tester *tester, bool compat)
{
	if (tester->options.compat == compat)
		return;
	tester->options.narrow = false;
	forms_free(tester->forms);
	tester->options.compat = compat;
	tester->forms = forms_new(compat, false);
}

/* One name at a time: a chunk has room for all of its times. */
static void run_named(struct tester *tester)
{
	const struct options *options = &tester->options;

	for (unsigned which = 0; which < named_count; which++) {
		if (options->job.named && options->job.named != &named[which])
			continue;
		use_mode(tester, named[which].compat);
		for (unsigned i = 0; i < NAMED_TIMES; i++)
			tester->slots[i].job = (struct job){.seed = options->start + i,
							    .form = NOT_A_FORM,
							    .named = &named[which]};
		run_slots(tester, NAMED_TIMES);
		count_slots(tester, NAMED_TIMES);
	}
}

static void run_garbage(struct tester *tester)
{
	const struct options *options = &tester->options;

	for (u64 done = 0; done < options->garbage; done += GARBAGE_CHUNK) {
		unsigned count = MIN((u64)GARBAGE_CHUNK, options->garbage - done);

		for (unsigned i = 0; i < count; i++) {
			tester->slots[i].job.seed = options->start + done + i;
			tester->slots[i].verdict = PENDING;
		}
		run_guarded(tester, garbage_side, count);
		for (unsigned i = 0; i < count; i++) {
			const struct slot *slot = &tester->slots[i];

			if (slot->verdict == SAME) {
				tester->passed++;
				continue;
			}
			tester->failed++;
			printf("FAIL --garbage=1 --start=%llu: killed by signal %d\n",
			       (unsigned long long)slot->job.seed, slot->signal);
		}
	}
}

static void list_forms(const struct tester *tester)
{
	for (unsigned i = 0; i < tester->forms->count; i++) {
		const struct form *form = &tester->forms->all[i];
		char name[100];

		if (!chosen(tester, form))
			continue;
		form_name(form, name, sizeof(name));
		printf("%u %s%s\n", i, name, form->odd ? " (prefix without meaning)" : "");
	}
}

static void run_single(struct tester *tester)
{
	struct job job = tester->options.job;

	if (job.named)
		use_mode(tester, job.named->compat);
	generate(tester->forms, &job, tester->sequence);
	sequence_print(tester->sequence);
	tester->slots[0].job = job;
	run_slots(tester, 1);
	count_slots(tester, 1);
}

/* ------------------------------------------------------------------ options */

static bool number(const char *argument, const char *name, u64 *value)
{
	size_t length = strlen(name);
	char *end;

	if (strncmp(argument, name, length) || argument[length] != '=')
		return false;
	errno = 0;
	*value = strtoull(argument + length + 1, &end, 0);
	if (errno || *end || end == argument + length + 1) {
		fprintf(stderr, "diff: not a number: %s\n", argument);
		exit(2);
	}
	return true;
}

static const struct named *find_named(const char *name)
{
	for (unsigned i = 0; i < named_count; i++)
		if (!strcmp(named[i].name, name))
			return &named[i];
	fprintf(stderr, "diff: there is no sequence %s: see tests/diff/named.inc\n", name);
	exit(2);
}

static unsigned parse_without(const char *list)
{
	struct problem problem;
	unsigned without = 0;

	if (tuning_parse(list, &without, &problem)) {
		fprintf(stderr, "diff: %s\n", problem.text);
		exit(2);
	}
	return without;
}

static void parse(struct options *options, int argc, char **argv)
{
	*options = (struct options){.count = 100000, .show = 10, .job.form = NOT_A_FORM};
	for (int i = 1; i < argc; i++) {
		const char *argument = argv[i];
		u64 value;

		if (number(argument, "--count", &options->count) ||
		    number(argument, "--start", &options->start) ||
		    number(argument, "--garbage", &options->garbage)) {
			continue;
		} else if (number(argument, "--seed", &options->job.seed)) {
			options->single = true;
		} else if (number(argument, "--form", &value)) {
			options->job.form = value;
		} else if (number(argument, "--show", &value)) {
			options->show = value;
		} else if (number(argument, "--forms", &value)) {
			options->per_form = value;
		} else if (!strcmp(argument, "--forms")) {
			options->per_form = 100;
		} else if (!strcmp(argument, "--named")) {
			options->named = true;
		} else if (!strncmp(argument, "--named=", 8)) {
			options->named = true;
			options->job.named = find_named(argument + 8);
		} else if (!strcmp(argument, "--list")) {
			options->list = true;
		} else if (!strcmp(argument, "--compat")) {
			options->compat = true;
		} else if (!strcmp(argument, "--narrow")) {
			options->compat = options->narrow = true;
		} else if (!strcmp(argument, "--kicked")) {
			options->kicked = true;
		} else if (!strncmp(argument, "--without=", 10)) {
			options->without = parse_without(argument + 10);
		} else if (!strncmp(argument, "--only=", 7)) {
			options->only = argument + 7;
		} else {
			fprintf(stderr, "diff: unknown option %s: see the head of %s\n", argument,
				__FILE__);
			exit(2);
		}
	}
}

static bool allocate(struct tester *tester)
{
	tester->forms = forms_new(tester->options.compat, tester->options.narrow);
	tester->sequence = calloc(1, sizeof(*tester->sequence));
	tester->form_failed = calloc(tester->forms->count, sizeof(*tester->form_failed));
	tester->slots = mmap(NULL, CHUNK * sizeof(*tester->slots), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return tester->sequence && tester->form_failed && tester->slots != MAP_FAILED;
}

static int run(struct tester *tester)
{
	const struct options *options = &tester->options;

	if (options->job.form >= (int)tester->forms->count) {
		fprintf(stderr, "diff: there is no form %d\n", options->job.form);
		return 2;
	}
	if (options->named && options->compat) {
		fprintf(stderr, "diff: what has a name is 64-bit or 32-bit code by itself\n");
		return 2;
	}
	if (options->list) {
		list_forms(tester);
		return 0;
	}
	if (options->single)
		run_single(tester);
	else if (options->garbage)
		run_garbage(tester);
	else if (options->named)
		run_named(tester);
	else if (options->per_form)
		run_forms(tester);
	else
		run_sequences(tester);
	printf("%llu passed, %llu failed, %llu skipped\n", (unsigned long long)tester->passed,
	       (unsigned long long)tester->failed, (unsigned long long)tester->skipped);
	return tester->failed != 0;
}

int main(int argc, char **argv)
{
	struct tester tester = {0};
	int status = 1;

	parse(&tester.options, argc, argv);
	if (allocate(&tester))
		status = run(&tester);
	else
		fprintf(stderr, "diff: no memory\n");
	forms_free(tester.forms);
	free(tester.sequence);
	free(tester.form_failed);
	return status;
}
