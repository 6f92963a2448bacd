/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * systest: chooses rows of the table and engines to run them on, has each run in a
 * process and a directory of its own, and counts.
 *
 *   systest [--lguest=PATH] [--assets=DIR] [--engine=NAME] [--jobs=N]
 *           [--timeout-scale=X] [--skip-missing] [--verbose] [--list] [--self-test]
 *           [--requested] [--without=LIST] [FILTER...]
 *
 * A FILTER chooses the rows whose name contains it, or with = in front the one that it names;
 * without any, all are run but those that are there on request, or with --requested those and no
 * others. The assets are DIR/guests/NAME (tests/guests), DIR/guest/NAME/{vmlinuz,initrd.img}
 * (scripts/guest) and DIR/guest/NAME/disk.img (scripts/rootfs). Exit status 0: no row failed.
 */
#include "systest.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ENGINES 8
#define MAX_JOBS    64

struct engine {
	char name[16];
	bool usable;
	char why[256];
};

struct engine_list {
	struct engine engines[MAX_ENGINES];
	unsigned count;
};

/* One row on one engine: what is counted. */
struct job {
	const struct test *test;
	const char *engine; /* NULL: none, or any */
	const char *skip;   /* why it is not run, or NULL */
	unsigned count;	    /* how many rows it stands for: 1, unless they are skipped together */
	char *name;

	pid_t pid;
	int result; /* the reading end of what the child has to say */
	char directory[64];
	double started;
};

struct jobs {
	struct job *all;
	size_t count;
};

struct score {
	unsigned passed, failed, skipped;
};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* "kvm    not usable: there is no /dev/kvm", as --engine=help has it. */
static void parse_engine(struct engine_list *list, const char *line)
{
	struct engine *engine = &list->engines[list->count];
	char state[32];

	if (list->count == MAX_ENGINES ||
	    sscanf(line, "%15s %31[a-z ]: %255[^\n]", engine->name, state, engine->why) != 3)
		return;
	engine->usable = strcmp(state, "usable") == 0;
	if (engine->usable || strcmp(state, "not usable") == 0)
		list->count++;
}

static bool find_engines(struct engine_list *list, const struct settings *settings)
{
	char line[512], *command = suite_text("'%s' --engine=help", settings->lguest);
	FILE *help = popen(command, "re");

	while (help && fgets(line, sizeof(line), help))
		parse_engine(list, line);
	return help && pclose(help) == 0;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
	(void)info;
	(void)type;
	(void)walk;
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* The child of a job: everything it has to say goes through one pipe. */
static void job_child(const struct job *job, const struct settings *settings, int result)
{
	struct verdict verdict = {.outcome = FAILED};
	FILE *file = fdopen(result, "w");

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run_test(job->test, job->engine, settings, job->directory, &verdict);
	fprintf(file, "%d%s\n%s", verdict.outcome, verdict.why,
		verdict.report ? verdict.report : "");
	fclose(file);
	_exit(0);
}

static bool job_start(struct job *job, const struct settings *settings)
{
	const char *temporary = getenv("TMPDIR");
	int ends[2];

	snprintf(job->directory, sizeof(job->directory), "%s/systest.XXXXXX",
		 temporary && strlen(temporary) < 32 ? temporary : "/tmp");
	/* What is below is for a user called nobody to find, too. */
	if (!mkdtemp(job->directory) || chmod(job->directory, 0755) < 0 ||
	    pipe2(ends, O_CLOEXEC) < 0) {
		fprintf(stderr, "systest: %s: %s\n", job->directory, strerror(errno));
		return false;
	}
	job->started = now();
	job->result = ends[0];
	fflush(stdout);
	job->pid = fork();
	if (job->pid == 0) {
		close(ends[0]);
		job_child(job, settings, ends[1]);
	}
	close(ends[1]);
	return job->pid > 0;
}

/* Waits for the end of a job that has begun to say what it has to say. */
static void job_finish(struct job *job, struct verdict *verdict)
{
	char outcome = '0' + FAILED, *words = NULL;
	size_t size = 0;
	FILE *file = fdopen(job->result, "r");

	snprintf(verdict->why, sizeof(verdict->why), "the runner died");
	verdict->report = NULL;
	if (getdelim(&words, &size, '\n', file) > 0) {
		words[strcspn(words, "\n")] = 0;
		outcome = words[0];
		snprintf(verdict->why, sizeof(verdict->why), "%s", words + 1);
		if (getdelim(&verdict->report, &size, 0, file) <= 0)
			verdict->report = NULL;
	}
	verdict->outcome = outcome - '0';
	free(words);
	fclose(file);
	waitpid(job->pid, NULL, 0);
	job->pid = 0;
	remove_tree(job->directory);
}

void run_isolated(const struct test *test, const char *engine, const struct settings *settings,
		  struct verdict *verdict)
{
	struct job job = {.test = test, .engine = engine};

	if (job_start(&job, settings)) {
		job_finish(&job, verdict);
	} else {
		verdict->outcome = FAILED;
		snprintf(verdict->why, sizeof(verdict->why), "could not be started");
		verdict->report = NULL;
	}
}

static void print_verdict(const struct job *job, const struct verdict *verdict, double seconds,
			  struct score *score)
{
	switch (verdict->outcome) {
	case PASSED:
		printf("PASS %s (%.2f s)\n", job->name, seconds);
		score->passed++;
		break;
	case FAILED:
		printf("FAIL %s: %s\n", job->name, verdict->why);
		score->failed++;
		break;
	case SKIPPED:
		printf("SKIP %s: %s\n", job->name, verdict->why);
		score->skipped += job->count;
		break;
	}
	if (verdict->report)
		fputs(verdict->report, stdout);
	fflush(stdout);
}

/* The first job of those that run, [first, next), that has something to say. */
static struct job *wait_for_job(struct jobs *jobs, size_t next)
{
	struct pollfd fds[MAX_JOBS];
	struct job *running[MAX_JOBS];
	unsigned count = 0;

	for (size_t i = 0; i < next; i++) {
		if (!jobs->all[i].pid)
			continue;
		running[count] = &jobs->all[i];
		fds[count++] = (struct pollfd){.fd = jobs->all[i].result, .events = POLLIN};
	}
	while (poll(fds, count, -1) < 0)
		;
	for (unsigned i = 0; i < count; i++)
		if (fds[i].revents)
			return running[i];
	return NULL;
}

static void collect(struct jobs *jobs, size_t next, struct score *score)
{
	struct job *job = wait_for_job(jobs, next);
	struct verdict verdict = {.outcome = FAILED};
	double seconds;

	job_finish(job, &verdict);
	seconds = now() - job->started;
	print_verdict(job, &verdict, seconds, score);
	free(verdict.report);
}

static void run_jobs(struct jobs *jobs, const struct settings *settings, unsigned at_once,
		     struct score *score)
{
	unsigned running = 0;

	for (size_t i = 0; i < jobs->count; i++) {
		struct job *job = &jobs->all[i];
		struct verdict verdict = {.outcome = SKIPPED};

		if (job->skip) {
			snprintf(verdict.why, sizeof(verdict.why), "%s", job->skip);
			print_verdict(job, &verdict, 0, score);
			continue;
		}
		if (running == at_once) {
			collect(jobs, i, score);
			running--;
		}
		if (job_start(job, settings))
			running++;
		else
			score->failed++;
	}
	for (; running; running--)
		collect(jobs, jobs->count, score);
}

struct choices {
	struct settings settings;
	const char *engine;
	unsigned jobs;
	bool list, self_test, requested;
	char *const *filters;
};

/* Is this row meant to run on that engine, where it can be used? */
static bool is_for(const struct test *test, const char *engine)
{
	return test->engines == EACH_ENGINE && (!test->only || strcmp(test->only, engine) == 0);
}

static bool is_chosen(const struct test *test, const char *name, const struct choices *choices)
{
	char *const *filters = choices->filters;

	if (!*filters)
		return !!(test->flags & ON_REQUEST) == choices->requested;
	for (; *filters; filters++)
		if (**filters == '=' ? !strcmp(name, *filters + 1) : !!strstr(name, *filters))
			return true;
	return false;
}

static void add_job(struct jobs *jobs, struct job job)
{
	jobs->all = reallocarray(jobs->all, jobs->count + 1, sizeof(*jobs->all));
	if (!jobs->all) {
		perror("systest");
		exit(1);
	}
	jobs->all[jobs->count++] = job;
}

static char *row_name(const struct test *test, const char *engine)
{
	return engine ? suite_text("%s/%s", test->name, engine) : suite_text("%s", test->name);
}

static bool is_row_chosen(const struct test *test, const char *engine,
			  const struct choices *choices)
{
	return is_chosen(test, row_name(test, engine), choices);
}

static void add_row(struct jobs *jobs, const struct test *test, const char *engine,
		    const struct choices *choices)
{
	if (is_row_chosen(test, engine, choices))
		add_job(jobs, (struct job){
				      .test = test,
				      .engine = engine,
				      .count = 1,
				      .name = row_name(test, engine),
			      });
}

/* Rows that are left out on this engine: one line for all of them, with the reason. */
static void add_skipped(struct jobs *jobs, const struct engine *engine, unsigned count,
			const char *why)
{
	if (count)
		add_job(jobs, (struct job){
				      .name = suite_text("%u rows on %s", count, engine->name),
				      .skip = why,
				      .count = count,
			      });
}

/* The rows that this engine is to run, in the order of the table. */
static void add_usable(struct jobs *jobs, const struct suite *suite, const struct engine *engine,
		       const struct choices *choices)
{
	for (size_t i = 0; i < suite->count; i++)
		if (is_for(&suite->tests[i], engine->name))
			add_row(jobs, &suite->tests[i], engine->name, choices);
}

/* Those that ask what happens when it cannot be used; all others wait for a better machine. */
static void add_unusable(struct jobs *jobs, const struct suite *suite, const struct engine *engine,
			 const struct choices *choices)
{
	unsigned skipped = 0;

	for (size_t i = 0; i < suite->count; i++) {
		const struct test *test = &suite->tests[i];

		if (test->engines == UNUSABLE_ENGINE)
			add_row(jobs, test, engine->name, choices);
		else if (is_for(test, engine->name))
			skipped += is_row_chosen(test, engine->name, choices);
	}
	add_skipped(jobs, engine, skipped, engine->why);
}

/* The rows, times the engines that each wants, less what is not asked for. */
static void make_jobs(struct jobs *jobs, const struct suite *suite, const struct engine_list *list,
		      const struct choices *choices)
{
	for (size_t i = 0; i < suite->count; i++)
		if (suite->tests[i].engines == NO_ENGINE)
			add_row(jobs, &suite->tests[i], NULL, choices);
	for (unsigned i = 0; i < list->count; i++) {
		const struct engine *engine = &list->engines[i];

		if (choices->engine && strcmp(choices->engine, engine->name) != 0)
			continue;
		if (engine->usable)
			add_usable(jobs, suite, engine, choices);
		else
			add_unusable(jobs, suite, engine, choices);
	}
}

static void list_jobs(const struct jobs *jobs)
{
	for (size_t i = 0; i < jobs->count; i++)
		printf("%s%s%s\n", jobs->all[i].name, jobs->all[i].skip ? ": skipped: " : "",
		       jobs->all[i].skip ? jobs->all[i].skip : "");
}

static int usage(void)
{
	fprintf(stderr, "usage: systest [--lguest=PATH] [--assets=DIR] [--engine=NAME] [--jobs=N]\n"
			"               [--timeout-scale=X] [--skip-missing] [--verbose]\n"
			"               [--requested] [--without=LIST] [--list] [--self-test] "
			"[FILTER...]\n");
	return 2;
}

static bool parse(struct choices *choices, int argc, char **argv)
{
	static const struct option options[] = {
		{"lguest", required_argument, NULL, 'g'},
		{"assets", required_argument, NULL, 'a'},
		{"engine", required_argument, NULL, 'e'},
		{"jobs", required_argument, NULL, 'j'},
		{"timeout-scale", required_argument, NULL, 't'},
		{"without", required_argument, NULL, 'w'},
		{"skip-missing", no_argument, NULL, 'm'},
		{"verbose", no_argument, NULL, 'v'},
		{"requested", no_argument, NULL, 'r'},
		{"list", no_argument, NULL, 'l'},
		{"self-test", no_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	struct settings *settings = &choices->settings;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'g':
			settings->lguest = optarg;
			break;
		case 'a':
			settings->assets = optarg;
			break;
		case 'e':
			choices->engine = optarg;
			break;
		case 'j':
			choices->jobs = atoi(optarg);
			break;
		case 't':
			settings->timeout_scale = atof(optarg);
			break;
		case 'w':
			settings->without = optarg;
			break;
		case 'm':
			settings->skip_missing = true;
			break;
		case 'v':
			settings->verbose = true;
			break;
		case 'r':
			choices->requested = true;
			break;
		case 'l':
			choices->list = true;
			break;
		case 's':
			choices->self_test = true;
			break;
		default:
			return false;
		}
	}
	choices->filters = argv + optind;
	return choices->jobs >= 1 && choices->jobs <= MAX_JOBS && settings->timeout_scale > 0;
}

/* Tests change directory, so what the user named must be named from the root. */
static bool make_absolute(const char **path)
{
	char *absolute = realpath(*path, NULL);

	if (!absolute)
		fprintf(stderr, "systest: %s: %s\n", *path, strerror(errno));
	*path = absolute;
	return absolute;
}

static int run_suite(struct choices *choices)
{
	struct engine_list engines = {.count = 0};
	struct suite suite = {.count = 0};
	struct jobs jobs = {.count = 0};
	struct score score = {0};

	if (!make_absolute(&choices->settings.lguest) || !make_absolute(&choices->settings.assets))
		return 2;
	if (!find_engines(&engines, &choices->settings)) {
		fprintf(stderr, "systest: %s --engine=help failed\n", choices->settings.lguest);
		return 2;
	}
	suite_add_bad_input(&suite);
	suite_add_guests(&suite);
	suite_add_cpu(&suite);
	suite_add_violations(&suite);
	suite_add_stock(&suite);
	suite_add_soft(&suite);
	suite_add_sandbox(&suite);
	suite_add_rootfs(&suite);
	suite_add_work(&suite);
	suite_add_disks(&suite);
	suite_add_usernet(&suite);
	suite_add_networks(&suite);
	suite_add_gdb(&suite);
	make_jobs(&jobs, &suite, &engines, choices);
	if (choices->list) {
		list_jobs(&jobs);
		return 0;
	}
	run_jobs(&jobs, &choices->settings, choices->jobs, &score);
	printf("%u passed, %u failed, %u skipped\n", score.passed, score.failed, score.skipped);
	return score.failed != 0;
}

int main(int argc, char **argv)
{
	struct choices choices = {
		.settings = {.lguest = "build/lguest", .assets = "build", .timeout_scale = 1},
		.jobs = 1,
	};

	if (!parse(&choices, argc, argv))
		return usage();
	if (choices.self_test)
		return self_test(&choices.settings);
	return run_suite(&choices);
}
