/* SoftHSM 2 behind a PKCS #11 module that does what SoftHSM never does: it counts wrong PINs and locks itself after
 * the third, as a smart card does, and while a file says so it is slow, or signs badly.
 *
 * STERN_MODULE is SoftHSM's own module. STERN_DIR holds `logins`, a line for each C_Login that gets here, and
 * the files `slow` and `bad`. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;

/* CK_FUNCTION_LIST: the version, then 68 functions in the order of PKCS #11 2.40. */
struct list {
    unsigned char version[2];
    void *call[68];
};
enum { GET_FUNCTION_LIST = 3, GET_TOKEN_INFO = 6, LOGIN = 18, SIGN = 43 };

#define GENERAL_ERROR 5UL
#define PIN_INCORRECT 0xa0UL
#define PIN_LOCKED 0xa4UL
/* CK_TOKEN_INFO: label, manufacturer, model and serial number stand before the flags. */
#define FLAGS_AT 96
#define PIN_COUNT_LOW 0x10000UL
#define PIN_FINAL_TRY 0x20000UL
#define PIN_LOCKED_FLAG 0x40000UL
#define TRIES 3

static struct list real, own;

static FILE *state(const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("STERN_DIR"), name);
    return fopen(path, mode);
}

static int says(const char *name)
{
    FILE *file = state(name, "r");
    if (file)
        fclose(file);
    return file != NULL;
}

/* Wrong PINs since the last right one. */
static int wrong(void)
{
    char line[32];
    int count = 0;
    FILE *file = state("logins", "r");
    while (file && fgets(line, sizeof line, file))
        count = strcmp(line, "ok\n") == 0 ? 0 : count + (strcmp(line, "wrong\n") == 0);
    if (file)
        fclose(file);
    return count;
}

static word token_info(word slot, unsigned char *info)
{
    word flags, result = ((word(*)(word, unsigned char *))real.call[GET_TOKEN_INFO])(slot, info);
    int tried = wrong();
    memcpy(&flags, info + FLAGS_AT, sizeof flags);
    flags |= tried ? PIN_COUNT_LOW : 0;
    flags |= tried == TRIES - 1 ? PIN_FINAL_TRY : 0;
    flags |= tried >= TRIES ? PIN_LOCKED_FLAG : 0;
    memcpy(info + FLAGS_AT, &flags, sizeof flags);
    return result;
}

static word login(word session, word user, unsigned char *pin, word length)
{
    word result = PIN_LOCKED;
    FILE *file;
    if (wrong() < TRIES)
        result = ((word(*)(word, word, unsigned char *, word))real.call[LOGIN])(session, user, pin, length);
    file = state("logins", "a");
    if (!file)
        return GENERAL_ERROR;
    fputs(result == 0 ? "ok\n" : result == PIN_INCORRECT ? "wrong\n" : "other\n", file);
    fclose(file);
    return result;
}

static word sign(word session, unsigned char *data, word length, unsigned char *signature, word *room)
{
    word result;
    if (says("slow"))
        sleep(11);
    result = ((word(*)(word, unsigned char *, word, unsigned char *, word *))real.call[SIGN])(
        session, data, length, signature, room);
    if (result == 0 && signature && says("bad"))
        signature[*room - 1] ^= 1;
    return result;
}

word C_GetFunctionList(struct list **list)
{
    struct list *theirs;
    word (*get)(struct list **);
    void *module = dlopen(getenv("STERN_MODULE"), RTLD_NOW);
    if (!module || !(get = (word(*)(struct list **))dlsym(module, "C_GetFunctionList")) || get(&theirs))
        return GENERAL_ERROR;
    real = own = *theirs;
    own.call[GET_FUNCTION_LIST] = (void *)C_GetFunctionList;
    own.call[GET_TOKEN_INFO] = (void *)token_info;
    own.call[LOGIN] = (void *)login;
    own.call[SIGN] = (void *)sign;
    *list = &own;
    return 0;
}
