// Search that works offline: `searchIndex`, a list of { title, url, text }, stands in index.js beside this file.
"use strict";

const searchBox = document.createElement("input");
searchBox.type = "search";
searchBox.placeholder = "Search the manual";
searchBox.setAttribute("aria-label", "Search the manual");
const searchResults = document.createElement("ol");
searchResults.setAttribute("aria-live", "polite");
const searchPlace = document.createElement("div");
searchPlace.id = "search";
searchPlace.append(searchBox, searchResults);
const isPhone = matchMedia("(max-width: 50em)").matches; // where the navigation is below the page
document.getElementById(isPhone ? "main" : "navigation").prepend(searchPlace);

// Folders are one deep: what is in one has the root above it.
const searchRoot = document.currentScript.getAttribute("src").replace("search.js", "");

// Every word must be in the entry; those that have it in their title come first.
function searchFor(text) {
  const words = text.toLowerCase().split(/\s+/).filter(word => word !== "");
  if (words.length === 0) return [];
  return searchIndex
    .map(entry => {
      const title = entry.title.toLowerCase();
      const all = `${title} ${entry.text.toLowerCase()}`;
      if (!words.every(word => all.includes(word))) return undefined;
      return { entry, rank: words.filter(word => title.includes(word)).length * 1000 - title.length };
    })
    .filter(found => found !== undefined)
    .sort((left, right) => right.rank - left.rank)
    .slice(0, 12)
    .map(found => found.entry);
}

searchBox.addEventListener("input", () => {
  searchResults.replaceChildren(...searchFor(searchBox.value).map(entry => {
    const link = document.createElement("a");
    link.href = searchRoot + entry.url;
    link.textContent = entry.title;
    const item = document.createElement("li");
    item.append(link);
    return item;
  }));
});
