/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cuts the power under a guest that writes, again and again, and looks at what is
 * left: is everything there that the guest was promised?
 *
 *   powercut [--lguest=PATH] [--guest=PATH] [--engine=NAME] [--cuts=N] [--seed=N]
 *
 * lguest is one whose disks forget (volatile_disk.c), the guest is tests/guests/
 * powercut.c, which reports what must survive. The moment of each cut is drawn by lot:
 * so many reports from the start, and then some microseconds. The same is done with
 * disks that lie about being durable, where loss must be found: or this test could not
 * find any. A line for each, and a last one that counts.
 */
#include "../guests/powercut.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEMORY	    "64"
#define REPORTS_MAX 120	  /* before the cut */
#define DELAY_MAX   20000 /* microseconds after the last of them */
#define PATIENCE    60	  /* seconds without a report, after which the guest is dead anyway */
#define DISK_SIZE   ((size_t)POWERCUT_BLOCKS * POWERCUT_BLOCK)

struct settings {
	const char *lguest, *guest, *engine;
	unsigned cuts;
	u64 seed;
};

struct kind {
	const char *name;
	const char *word; /* on the guest's command line, or NULL */
	bool lies;	  /* the disk does */
};

static const struct kind kinds[] = {
	{"after-flush", "flush", false},
	{"without-flush", NULL, false},
	{"with-cache-off", "cache-off", false},
	{"after-flush-that-does-nothing", "flush", true},
	{"without-flush-and-not-durable", NULL, true},
};

/* What came of one cut. */
struct cut {
	u64 low, above;	       /* the guest's last report */
	unsigned due, missing; /* sectors */
	bool failed;	       /* of itself, not for what is missing */
	char why[256];
};

static bool fail(struct cut *cut, const char *format, ...) PRINTF(2, 3);

static bool fail(struct cut *cut, const char *format, ...)
{
	va_list args;

	cut->failed = true;
	va_start(args, format);
	vsnprintf(cut->why, sizeof(cut->why), format, args);
	va_end(args);
	return false;
}

/* splitmix64: seeds for seeds. */
static u64 draw(u64 *state)
{
	u64 word = *state += 0x9e3779b97f4a7c15;

	word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
	word = (word ^ word >> 27) * 0x94d049bb133111eb;
	return word ^ word >> 31;
}

static void become_lguest(const struct settings *settings, const struct kind *kind,
			  const char *disk, u64 seed, int output)
{
	char engine[64], block[128], number[32];

	snprintf(engine, sizeof(engine), "--engine=%s", settings->engine);
	snprintf(block, sizeof(block), "--block=%s", disk);
	snprintf(number, sizeof(number), "%lu", seed);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("POWERCUT_SEED", number, 1);
	if (kind->lies)
		setenv("POWERCUT_LIE", "", 1);
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	dup2(output, STDOUT_FILENO);
	dup2(output, STDERR_FILENO);
	execl(settings->lguest, settings->lguest, engine, block, MEMORY, settings->guest,
	      kind->word, NULL);
	_exit(127);
}

/* What lguest has said so far. */
struct output {
	int fd;
	size_t length;
	unsigned lines;
	char text[1 << 18];
};

/* False: there is no more, or nothing comes. */
static bool hear(struct output *output)
{
	struct pollfd readable = {.fd = output->fd, .events = POLLIN};
	const size_t room = sizeof(output->text) - 1 - output->length;
	ssize_t got;

	if (!room || poll(&readable, 1, PATIENCE * 1000) != 1)
		return false;
	got = read(output->fd, output->text + output->length, room);
	if (got <= 0)
		return false;
	for (ssize_t i = 0; i < got; i++)
		output->lines += output->text[output->length++] == '\n';
	return true;
}

/* The last whole line is a report, or it all went wrong. */
static bool last_report(struct output *output, struct cut *cut)
{
	char *end = memrchr(output->text, '\n', output->length), *line;

	if (!end)
		return fail(cut, "not a word");
	*end = 0;
	line = memrchr(output->text, '\n', end - output->text);
	line = line ? line + 1 : output->text;
	if (sscanf(line, "durable %lu %lx", &cut->low, &cut->above) != 2)
		return fail(cut, "%.200s", line);
	return true;
}

/* Let a guest write to the disk, and cut its power after so many reports. */
static void run_until_cut(const struct settings *settings, const struct kind *kind,
			  const char *disk, u64 seed, struct cut *cut)
{
	static struct output output;
	const unsigned reports = 1 + draw(&seed) % REPORTS_MAX;
	const struct timespec delay = {.tv_nsec = draw(&seed) % DELAY_MAX * 1000};
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0 || (child = fork()) < 0) {
		fail(cut, "cannot start lguest: %s", strerror(errno));
		return;
	}
	if (child == 0)
		become_lguest(settings, kind, disk, draw(&seed), ends[1]);
	close(ends[1]);
	output = (struct output){.fd = ends[0]};
	while (output.lines < reports && hear(&output))
		;
	nanosleep(&delay, NULL);
	kill(child, SIGKILL);
	if (output.lines < reports)
		fail(cut, "ended before its power was cut: %.200s", output.text);
	while (hear(&output))
		;
	waitpid(child, NULL, 0);
	close(ends[0]);
	if (!cut->failed)
		last_report(&output, cut);
}

static bool survives(const struct cut *cut, u64 number)
{
	return number <= cut->low ||
	       (number - cut->low - 1 < 64 && cut->above >> (number - cut->low - 1) & 1);
}

/* Which write this sector is of: 0 if of none. False: of none that there ever was. */
static bool read_sector(const u64 *words, u64 sector, u64 *number)
{
	static const u64 blank[POWERCUT_WORDS];

	*number = words[0];
	if (!*number)
		return memcmp(words, blank, sizeof(blank)) == 0;
	for (unsigned i = 0; i < POWERCUT_WORDS; i++)
		if (words[i] != powercut_word(*number, sector, i))
			return false;
	return powercut_block(*number) == sector / POWERCUT_BLOCK_SECTORS;
}

/* A later write to the same place may have survived, and need not. */
static void look(const u64 *content, struct cut *cut)
{
	static u64 due[POWERCUT_BLOCKS];

	memset(due, 0, sizeof(due));
	for (u64 number = 1; number <= cut->low + 64; number++)
		if (survives(cut, number))
			due[powercut_block(number)] = number;
	for (u64 sector = 0; sector < DISK_SIZE / POWERCUT_SECTOR; sector++) {
		const u64 wanted = due[sector / POWERCUT_BLOCK_SECTORS];
		u64 number;

		if (!read_sector(content + sector * POWERCUT_WORDS, sector, &number)) {
			fail(cut, "sector %lu has what nobody wrote", sector);
			return;
		}
		cut->due += wanted != 0;
		cut->missing += number < wanted;
	}
}

static void cut_power(const struct settings *settings, const struct kind *kind, u64 seed,
		      struct cut *cut)
{
	static u64 content[DISK_SIZE / 8];
	char path[] = "/tmp/powercut.XXXXXX";
	int disk = mkostemp(path, O_CLOEXEC);

	memset(cut, 0, sizeof(*cut));
	if (disk < 0 || ftruncate(disk, DISK_SIZE) < 0)
		fail(cut, "cannot make a disk: %s", strerror(errno));
	else
		run_until_cut(settings, kind, path, seed, cut);
	if (!cut->failed && pread(disk, content, DISK_SIZE, 0) != (ssize_t)DISK_SIZE)
		fail(cut, "cannot read the disk: %s", strerror(errno));
	if (!cut->failed)
		look(content, cut);
	unlink(path);
	close(disk);
}

/* A line, and whether it is a good one. */
static bool test(const struct settings *settings, const struct kind *kind)
{
	u64 seeds = settings->seed;
	unsigned long due = 0, missing = 0;
	unsigned cuts = 0;
	struct cut cut;

	while (cuts < settings->cuts && !(missing && kind->lies)) {
		u64 seed = draw(&seeds);

		cuts++;
		cut_power(settings, kind, seed, &cut);
		if (cut.failed) {
			printf("FAIL powercut-%s: cut %u: %s\n", kind->name, cuts, cut.why);
			return false;
		}
		due += cut.due;
		missing += cut.missing;
		if (cut.missing && !kind->lies)
			printf("# cut %u: %u of %u sectors missing, up to write %lu, %lx\n", cuts,
			       cut.missing, cut.due, cut.low, cut.above);
	}
	printf("%s powercut-%s: seed %lu, %u cuts, %lu sectors due, %lu missing\n",
	       !due || !missing == kind->lies ? "FAIL" : "PASS", kind->name, settings->seed, cuts,
	       due, missing);
	return due && !missing != kind->lies;
}

int main(int argc, char **argv)
{
	struct settings settings = {
		.lguest = "build/lguest-powercut",
		.guest = "build/guests/powercut",
		.engine = "soft",
		.cuts = 50,
		.seed = 1,
	};
	static const struct option options[] = {
		{"lguest", required_argument, NULL, 'l'}, {"guest", required_argument, NULL, 'g'},
		{"engine", required_argument, NULL, 'e'}, {"cuts", required_argument, NULL, 'c'},
		{"seed", required_argument, NULL, 's'},	  {NULL, 0, NULL, 0},
	};
	unsigned passed = 0, failed = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l':
			settings.lguest = optarg;
			break;
		case 'g':
			settings.guest = optarg;
			break;
		case 'e':
			settings.engine = optarg;
			break;
		case 'c':
			settings.cuts = strtoul(optarg, NULL, 0);
			break;
		case 's':
			settings.seed = strtoull(optarg, NULL, 0);
			break;
		default:
			return 1;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (test(&settings, &kinds[i]))
			passed++;
		else
			failed++;
	}
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
