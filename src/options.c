/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: see options.h.
 *
 * One table says what there is; parsing and --help both read it. getopt is not
 * used, because of one habit of the old Launcher that is worth keeping: options of
 * ours may follow the kernel, up to the first argument that is not one. All that
 * follows is the kernel's, dashes included.
 *
 * Tour 1.90
 */
#include "options.h"

#include "engine/engine.h"
#include "engine/soft/tuning.h"
#include "host/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRACE_FILE "lguest.trace"

struct option {
	const char *name;
	const char *argument; /* what --help calls it; NULL: takes none */
	const char *help;     /* NULL: it shares a line, and what is said there, with the next */
	int (*set)(struct options *options, const char *name, const char *value,
		   struct problem *why);
};

static int set_engine(struct options *options, const char *name, const char *value,
		      struct problem *why)
{
	(void)name;
	if (!strcmp(value, "help")) {
		options->action = ACTION_ENGINE_HELP;
		return 0;
	}
	if (!engine_known(value))
		return problem(why, EINVAL, "--engine=%s: there are auto, kvm and soft (and help)",
			       value);
	options->engine = value;
	return 0;
}

static int set_cpus(struct options *options, const char *name, const char *value,
		    struct problem *why)
{
	char *end;
	unsigned long cpus;

	(void)name;
	errno = 0;
	cpus = strtoul(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || errno || !cpus || cpus > OPTIONS_CPUS_MAX)
		return problem(why, EINVAL, "--cpus=%s: not a number of CPUs from 1 to %u", value,
			       OPTIONS_CPUS_MAX);
	options->vm.vcpus = cpus;
	return 0;
}

/*
 * A number of MiB, or of what its suffix says. -EINVAL: it is no size; -ERANGE: one that 64 bits
 * cannot hold.
 */
static int parse_size(const char *text, u64 *size)
{
	unsigned shift = 20;
	u64 number;
	char *end;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (*end && !end[1]) {
		const char *suffix = strchr("KkMmGg", *end);

		if (suffix) {
			shift = 10 + (suffix - "KkMmGg") / 2 * 10;
			end++;
		}
	}
	if (text[0] < '0' || text[0] > '9' || *end)
		return -EINVAL;
	*size = number << shift;
	return errno || *size >> shift != number ? -ERANGE : 0;
}

static int set_console(struct options *options, const char *name, const char *value,
		       struct problem *why)
{
	(void)name;
	if (!strcmp(value, "serial"))
		options->console = CONSOLE_SERIAL;
	else if (!strcmp(value, "virtio"))
		options->console = CONSOLE_VIRTIO;
	else
		return problem(why, EINVAL, "--console=%s: there are serial and virtio", value);
	return 0;
}

static int set_initrd(struct options *options, const char *name, const char *value,
		      struct problem *why)
{
	(void)name;
	if (options->initrd)
		return problem(why, EINVAL, "--initrd=%s: there is one already, %s", value,
			       options->initrd);
	options->initrd = value;
	return 0;
}

static int set_soft_cache(struct options *options, const char *name, const char *value,
			  struct problem *why)
{
	u64 size;
	int err = parse_size(value, &size);

	(void)name;
	if (err == -EINVAL)
		return problem(why, EINVAL,
			       "--soft-cache=%s: not a size (MiB, or a number with K, M or G)",
			       value);
	if (err || size > SOFT_CACHE_MAX)
		return problem(why, EINVAL,
			       "--soft-cache=%s: more than the %" PRIu64
			       " GiB that a jump can reach across",
			       value, SOFT_CACHE_MAX >> 30);
	if (size < SOFT_CACHE_MIN)
		return problem(why, EINVAL,
			       "--soft-cache=%s: too small, the soft engine needs at least %" PRIu64
			       " MiB",
			       value, SOFT_CACHE_MIN >> 20);
	options->vm.soft_cache = align_down(size, PAGE_SIZE);
	return 0;
}

static int set_trace(struct options *options, const char *name, const char *value,
		     struct problem *why)
{
	(void)name;
	return tuning_parse_trace(value, &options->vm.trace, why);
}

static int set_trace_file(struct options *options, const char *name, const char *value,
			  struct problem *why)
{
	(void)name;
	if (!*value)
		return problem(why, EINVAL, "--trace-file=: wants the name of a file");
	options->vm.trace_file = value;
	return 0;
}

static int set_soft_without(struct options *options, const char *name, const char *value,
			    struct problem *why)
{
	(void)name;
	return tuning_parse(value, &options->vm.soft_without, why);
}

/* A port, or the path of a socket: no path has digits alone, unless ./ is put before it. */
static int set_gdb(struct options *options, const char *name, const char *value,
		   struct problem *why)
{
	unsigned long port;

	(void)name;
	if (!*value)
		return problem(why, EINVAL, "--gdb=: wants a port, or the path of a socket");
	options->gdb = (struct gdb_options){.wait = options->gdb.wait};
	if (value[strspn(value, "0123456789")]) {
		options->gdb.path = value;
		return 0;
	}
	port = strtoul(value, NULL, 10);
	if (!port || port > UINT16_MAX)
		return problem(why, EINVAL, "--gdb=%s: not a port from 1 to %u", value, UINT16_MAX);
	options->gdb.port = port;
	return 0;
}

static int set_flag(struct options *options, const char *name, const char *value,
		    struct problem *why)
{
	(void)value, (void)why;
	if (!strcmp(name, "strict"))
		options->strict = true;
	else if (!strcmp(name, "no-reboot"))
		options->no_reboot = true;
	else if (!strcmp(name, "debug-exit"))
		options->debug_exit = true;
	else if (!strcmp(name, "no-sandbox"))
		options->sandbox.off = true;
	else if (!strcmp(name, "gdb-wait"))
		options->gdb.wait = true;
	else if (!strcmp(name, "soft-stats"))
		options->vm.soft_stats = true;
	else if (!strcmp(name, "soft-perf"))
		options->vm.soft_perf = true;
	else
		options->verbose = true;
	return 0;
}

static int set_action(struct options *options, const char *name, const char *value,
		      struct problem *why)
{
	(void)value, (void)why;
	options->action = !strcmp(name, "help") ? ACTION_HELP : ACTION_VERSION;
	return 0;
}

/*
 * One device more, or NULL with *why filled. Its text is a copy that a parser may cut up; NULL
 * without a value.
 */
static struct device_options *add_device(struct options *options, enum device_kind kind,
					 const char *name, const char *value, struct problem *why)
{
	struct device_options *device = &options->devices[options->device_count];

	if (options->device_count == OPTIONS_DEVICES_MAX) {
		problem(why, ENOSPC, "--%s: one device too many, a guest can have %u", name,
			OPTIONS_DEVICES_MAX);
		return NULL;
	}
	*device = (struct device_options){.kind = kind, .text = value ? strdup(value) : NULL};
	if (value && !device->text) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	options->device_count++;
	return device;
}

static int set_block(struct options *options, const char *name, const char *value,
		     struct problem *why)
{
	struct device_options *device = add_device(options, DEVICE_BLOCK, name, value, why);

	return device ? options_parse_disk(&device->disk, device->text, why) : -ENOSPC;
}

static int set_net(struct options *options, const char *name, const char *value,
		   struct problem *why)
{
	struct device_options *device = add_device(options, DEVICE_NET, name, value, why);

	return device ? options_parse_net(&device->netif, name, device->text, why) : -ENOSPC;
}

static int set_rng(struct options *options, const char *name, const char *value,
		   struct problem *why)
{
	return add_device(options, DEVICE_RNG, name, value, why) ? 0 : -ENOSPC;
}

static int set_username(struct options *options, const char *name, const char *value,
			struct problem *why)
{
	(void)name;
	if (!*value)
		return problem(why, EINVAL, "--username=: wants the name of a user");
	options->sandbox.username = value;
	return 0;
}

static int set_chroot(struct options *options, const char *name, const char *value,
		      struct problem *why)
{
	(void)name;
	if (!*value)
		return problem(why, EINVAL, "--chroot=: wants a directory");
	options->sandbox.chroot = value;
	return 0;
}

/*
 * What there is: the name, what its value is called, what --help says, and who takes it. An
 * option is a line here, and a function above.
 *
 * Tour 1.91, 12 lines: All options in one table
 */
static const struct option known[] = {
	{"initrd", "FILE", "initial RAM disk for the kernel", set_initrd},
	{"block", "FILE[,ro][,id=NAME][,direct]", "a disk: a file, or a block device", set_block},
	{"net", "user[,hostfwd=tcp:PORT:PORT]", "a network that takes no rights", set_net},
	{"tunnet", "IP[/BITS][:MAC]", "a network: a tap, or bridge:NAME[:MAC]", set_net},
	{"sharenet", "NAME[:MAC]", "a network of all guests that say NAME", set_net},
	{"rng", NULL, "a source of random numbers", set_rng},
	{"cpus", "N", "virtual CPUs (1)", set_cpus},
	{"engine", "auto|kvm|soft|help", "what runs it; help: what could, and why", set_engine},
	{"console", "serial|virtio", "where standard input goes", set_console},
	{"no-reboot", NULL, "a guest that reboots is done", set_flag},
	{"debug-exit", NULL, "a byte b to port 0xF4: status 2 * b + 1", set_flag},
	{"strict", NULL, "a driver that breaks a rule ends it", set_flag},
	{"username", "NAME", NULL, set_username},
	{"chroot", "FOLDER", "once all is open: as NAME, in FOLDER", set_chroot},
	{"no-sandbox", NULL, "do not lock lguest in", set_flag},
	{"gdb", "SOCKET|PORT", NULL, set_gdb},
	{"gdb-wait", NULL, "let gdb in; run nothing before it came", set_flag},
	{"soft-cache", "SIZE", "room for a CPU's translated code (64M)", set_soft_cache},
	{"soft-stats", NULL, NULL, set_flag},
	{"soft-perf", NULL, "tell what soft did; make a map for perf", set_flag},
	{"soft-without", "LIST", "leave out what makes soft faster", set_soft_without},
	{"trace", "LIST", NULL, set_trace},
	{"trace-file", "FILE", "exec,int,mmu,io to FILE (" TRACE_FILE ")", set_trace_file},
	{"verbose", NULL, NULL, set_flag},
	{"help", NULL, NULL, set_action},
	{"version", NULL, "say what happens (-v); this; the version", set_action},
};

/*
 * The option that `argument` names ("--name", "--name=value", "-v"), or NULL; *value is NULL where
 * none is attached.
 */
static const struct option *find(const char *argument, const char **value)
{
	*value = NULL;
	if (!strcmp(argument, "-v"))
		argument = "--verbose";
	if (strncmp(argument, "--", 2))
		return NULL;
	argument += 2;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		size_t length = strlen(known[i].name);

		if (strncmp(argument, known[i].name, length))
			continue;
		if (argument[length] == '=')
			*value = argument + length + 1;
		if (!argument[length] || *value)
			return &known[i];
	}
	return NULL;
}

static int parse_memory(struct options *options, const char *text, struct problem *why)
{
	u64 size;
	int err = parse_size(text, &size);

	if (err == -EINVAL)
		return problem(why, EINVAL,
			       "memory \"%s\": not a size (MiB, or a number with K, M or G)", text);
	if (err || size > MEMORY_MAX)
		return problem(why, EINVAL,
			       "memory %s: more than the %" PRIu64 " GiB that a guest can have",
			       text, MEMORY_MAX >> 30);
	if (size < MEMORY_MIN)
		return problem(why, EINVAL, "memory %s: a guest needs at least %" PRIu64 " MiB",
			       text, MEMORY_MIN >> 20);
	options->memory = align_down(size, PAGE_SIZE);
	return 0;
}

static int join(struct options *options, int argc, char **argv, struct problem *why)
{
	size_t length = 1;
	char *to;

	for (int i = 0; i < argc; i++)
		length += strlen(argv[i]) + 1;
	to = options->command_line = malloc(length);
	if (!to)
		return problem(why, ENOMEM, "out of memory");
	*to = '\0';
	for (int i = 0; i < argc; i++) {
		if (i)
			*to++ = ' ';
		to = stpcpy(to, argv[i]);
	}
	return 0;
}

/* One of our options at argv[*i], perhaps with its value behind it. */
static int take_option(struct options *options, const struct option *option, const char *value,
		       int argc, char **argv, int *i, struct problem *why)
{
	if (!option->argument && value)
		return problem(why, EINVAL, "%s: takes no value", argv[*i]);
	if (option->argument && !value) {
		if (++*i == argc)
			return problem(why, EINVAL, "--%s: wants a value (--%s=%s)", option->name,
				       option->name, option->argument);
		value = argv[*i];
	}
	return option->set(options, option->name, value, why);
}

/* An option that was given and that only the soft engine has; NULL: none. */
static const char *soft_option(const struct engine_options *vm)
{
	if (vm->trace)
		return "trace";
	if (vm->soft_stats)
		return "soft-stats";
	if (vm->soft_perf)
		return "soft-perf";
	return vm->soft_without ? "soft-without" : NULL;
}

/* What only makes sense together, and what was not said. */
static int complete(struct options *options, struct problem *why)
{
	struct engine_options *vm = &options->vm;

	if (vm->trace_file && !vm->trace)
		return problem(
			why, EINVAL,
			"--trace-file=%s: nothing is traced; --trace=exec,int,mmu,io says what",
			vm->trace_file);
	if (!vm->trace_file)
		vm->trace_file = TRACE_FILE;
	if (!strcmp(options->engine, "kvm") && soft_option(vm))
		return problem(why, EINVAL, "--%s: only the soft engine has that, and not kvm",
			       soft_option(vm));
	if (options->gdb.wait && !options->gdb.path && !options->gdb.port)
		return problem(why, EINVAL, "--gdb-wait: for whom? --gdb=SOCKET|PORT says it");
	return 0;
}

/*
 * One pass over the arguments. First come memory and kernel, with options of ours around them;
 * once there is a kernel, whatever is not an option of ours is the kernel's, and so is all
 * that follows.
 *
 * Tour 1.92: Whose argument is it?
 */
/*
 * The kernel gets what we do not know, and whatever is behind it. But a word that begins like an
 * option of ours is mostly one, misspelt or late; Linux has none such before a bare "--".
 */
static void look_for_stray(struct options *options, char **words)
{
	options->kernels_first = *words;
	for (; *words && strcmp(*words, "--"); words++)
		if (!strncmp(*words, "--", 2)) {
			options->astray = *words;
			return;
		}
}

int options_parse(struct options *options, int argc, char **argv, struct problem *why)
{
	bool have_memory = false;
	int i, err;

	*options = (struct options){
		.engine = "auto",
		.vm = {.vcpus = 1, .soft_cache = SOFT_CACHE_DEFAULT, .may_share = true},
	};
	for (i = 1; i < argc; i++) {
		const char *value;
		const struct option *option = find(argv[i], &value);

		err = 0;
		if (option) {
			err = take_option(options, option, value, argc, argv, &i, why);
		} else if (options->kernel) {
			/* "--" only says where ours end. */
			if (!strcmp(argv[i], "--"))
				i++;
			else
				look_for_stray(options, argv + i);
			break;
		} else if (argv[i][0] == '-' && argv[i][1] &&
			   !(argv[i][1] >= '0' && argv[i][1] <= '9')) {
			err = problem(why, EINVAL, "unknown option %s (lguest --help lists them)",
				      argv[i]);
		} else if (!have_memory) {
			err = parse_memory(options, argv[i], why);
			have_memory = true;
		} else {
			options->kernel = argv[i];
		}
		if (err)
			return err;
		if (options->action != ACTION_RUN)
			return 0;
	}
	if (!options->kernel)
		return problem(why, EINVAL,
			       "%s is missing: lguest [options] <memory> <kernel> [kernel "
			       "arguments...] (lguest --help says more)",
			       have_memory ? "the kernel" : "the memory size");
	err = complete(options, why);
	return err ? err : join(options, argc - i, argv + i, why);
}

void options_free(struct options *options)
{
	for (unsigned i = 0; i < options->device_count; i++)
		free(options->devices[i].text);
	free(options->command_line);
}

/* 23 lines of 80: they and the shell's next prompt are a screen. So options share lines. */
#define HELP_COLUMN 36

void options_help(void)
{
	char left[80];
	size_t used = 0;

	printf("usage: lguest [options] <memory> <kernel> [kernel arguments...]\n"
	       "Memory is in MiB, or ends in K, M or G. Three ^C within a second end the guest.\n");
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		const struct option *option = &known[i];

		used += snprintf(left + used, sizeof(left) - used, "%s--%s%s%s", used ? " " : "",
				 option->name, option->argument ? "=" : "",
				 option->argument ? option->argument : "");
		if (!option->help)
			continue;
		printf("  %-*s  %s\n", HELP_COLUMN, left, option->help);
		used = 0;
	}
	printf("Exit status: 0 powered off, 1 lguest failed, 2 crash, 3 panic, 128 + n signal "
	       "n.\n");
}
