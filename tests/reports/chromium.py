"""Helpers for tests of the page in Chromium."""


def all_of(browser, selector):
    return browser.find_elements("css selector", selector)


def one(browser, selector):
    return browser.find_element("css selector", selector)


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


def plotted(browser, selector):
    """Return the texts of the table of numbers below a plot."""
    script = """
    return [...document.querySelectorAll(arguments[0] + ' > details tbody tr')]
      .map((row) => [...row.cells].map((cell) => cell.textContent));
    """
    return browser.execute_script(script, selector)
